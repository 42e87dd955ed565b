"""Runs BCC's memleak, unchanged, with the one argument that Debian 12's Python binding of BCC forgets.

python3-bpfcc 0.26 calls bpf_attach_uprobe with six arguments; the library takes seven, and reads whatever lies where
the offset of a reference counter should be. Mostly the kernel then refuses the probe (EINVAL). Here it is 0.
"""

import ctypes
import runpy
import sys

sys.path.pop(0)  # this folder, whose bcc.py is not the distribution's

from bcc.libbcc import lib

attach = lib.bpf_attach_uprobe
attach.argtypes = [*attach.argtypes[:6], ctypes.c_uint32]
lib.bpf_attach_uprobe = lambda *arguments: attach(*arguments[:6], 0)

program = sys.argv.pop(1)
sys.argv[0] = program
runpy.run_path(program, run_name="__main__")
