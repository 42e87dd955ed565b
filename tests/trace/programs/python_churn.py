"""Python threads that take a block at once, while threads that C started come and go beside them.

Each thread's first block is asked for while the interpreter's list of threads changes. At the second stop the program
writes how many blocks `takes` took.
"""

from __future__ import annotations

import ctypes
import sys
import threading

SIZE = 40_000  # above what pymalloc serves: each is a malloc of the C library

libc = ctypes.CDLL(None)
take = libc.malloc
START = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
ended = threading.Event()


def of_c(_argument: int) -> None:
    """Called by a thread that is none of Python's: it has a state in the interpreter for as long as this takes."""


start_of_c = START(of_c)


def churns() -> None:
    thread = ctypes.c_ulong()
    while not ended.is_set():
        libc.pthread_create(ctypes.byref(thread), None, start_of_c, None)
        libc.pthread_join(thread, None)


def takes() -> None:
    take(SIZE)


def main() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    times = int(sys.argv[1])
    beside = [threading.Thread(target=churns) for _ in range(3)]
    for thread in beside:
        thread.start()
    for _ in range(times):
        threads = [threading.Thread(target=takes) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    ended.set()
    for thread in beside:
        thread.join()
    sys.stdout.write(f"{4 * times}\n")
    sys.stdout.flush()
    sys.stdin.readline()


main()
