from __future__ import annotations

import pytest

from diagnosis.target.libc import is_c_runtime, is_libc


@pytest.mark.parametrize(
    "path",
    [
        "/usr/lib/x86_64-linux-gnu/libc.so.6",
        "/lib/x86_64-linux-gnu/libc-2.31.so",
        "/lib/ld-musl-x86_64.so.1",
        "/lib/libc.musl-aarch64.so.1",
        "/usr/lib/libc.so.6 (deleted)",
        "libc.so.6",
    ],
)
def test_a_c_library_is_known_by_its_name(path: str) -> None:
    assert is_libc(path)
    assert is_c_runtime(path)


@pytest.mark.parametrize("path", ["/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libpthread-2.31.so"])
def test_what_starts_threads_beside_it_is_of_the_runtime_only(path: str) -> None:
    assert is_c_runtime(path)
    assert not is_libc(path)


@pytest.mark.parametrize(
    "path", ["/usr/lib/libcrypto.so.3", "/opt/libc.so/program", "", "[vdso]", "/usr/lib/libm.so.6"]
)
def test_other_files_are_neither(path: str) -> None:
    assert not is_libc(path)
    assert not is_c_runtime(path)
