"""cffi's builder is named here because setuptools has no declarative key for it."""

from setuptools import setup

setup(cffi_modules=["build_catalog_cache.py:ffi"])
