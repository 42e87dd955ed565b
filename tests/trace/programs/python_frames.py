"""Takes memory from every kind of Python function, and says from which: the truth about its own stacks.

Each line that calls `note()` takes one block of SIZE bytes. Between its two stops the program takes thousands of them;
at the second one it writes, as JSON, how many blocks each stack took: [[count, [[function, file, line], ...]], ...].
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SIZE = 40_000  # above what pymalloc serves: each is a malloc of the C library

libc = ctypes.CDLL(None)
take = libc.malloc  # releases the interpreter's lock meanwhile
take_locked = ctypes.PyDLL(None).malloc
COMPARE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
START = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)

taken: Counter[tuple[tuple[str, str, int], ...]] = Counter()
lock = threading.Lock()


def note() -> bool:
    """Count the stack of the caller, which takes a block on the same line: True."""
    frame: FrameType | None = sys._getframe(1)
    stack = []
    while frame:
        code = frame.f_code
        stack.append((code.co_qualname, code.co_filename, frame.f_lineno))
        frame = frame.f_back
    with lock:
        taken[tuple(stack)] += 1
    return True


def leaf() -> None:
    _ = note() and take(SIZE)


class Kind:
    def method(self) -> None:
        leaf()
        _ = note() and take_locked(SIZE)

    @staticmethod
    def static() -> None:
        _ = note() and take(SIZE)

    def __len__(self) -> int:
        _ = note() and take(SIZE)
        return 1


def generated() -> Iterator[int]:
    for i in range(2):
        _ = note() and take(SIZE)
        yield i


async def awaited() -> None:
    _ = note() and take(SIZE)


async def coroutine() -> None:
    await awaited()


def recursive(depth: int) -> None:
    if depth:
        recursive(depth - 1)
    else:
        _ = note() and take(SIZE)


def through_c(depth: int) -> int:
    """Recursion that goes through C at each step."""
    if depth:
        return max([depth], key=lambda found: through_c(found - 1))
    _ = note() and take(SIZE)
    return 0


def größe_日本() -> None:  # noqa: N802, PLC2401 - strings of every width
    _ = note() and take(SIZE)


def compare(_one: int, _other: int) -> int:
    _ = note() and take(SIZE)
    return 0


def in_a_thread_of_c(_argument: int) -> None:
    _ = note() and take(SIZE)


compare_of_c, start_of_c = COMPARE(compare), START(in_a_thread_of_c)
made: dict[str, Any] = {}
exec(compile("\n" * 300 + "def made():\n    _ = note() and take(SIZE)\n", "<made>", "exec"), globals(), made)


def fails() -> None:
    try:
        int("none")
    except ValueError:
        _ = note() and take(SIZE)
    finally:
        leaf()


def work(times: int) -> None:
    for i in range(times):
        kind = Kind()
        kind.method()
        Kind.static()
        len(kind)
        list(generated())
        with contextlib.suppress(StopIteration):
            coroutine().send(None)
        recursive(i % 12)
        through_c(i % 5)
        for _ in [len(Kind()) for _ in range(2)]:
            (lambda: note() and take(SIZE))()  # noqa: PLC3002
        größe_日本()
        made["made"]()
        fails()
        if i % 10 == 0:
            array = (ctypes.c_int * 3)(3, 2, 1)
            libc.qsort(array, 3, 4, compare_of_c)
            recursive(150)
            thread = ctypes.c_ulong()
            libc.pthread_create(ctypes.byref(thread), None, start_of_c, None)
            libc.pthread_join(thread, None)


def main() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    times = int(sys.argv[1])
    threads = [threading.Thread(target=work, args=(times,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    work(times)
    for thread in threads:
        thread.join()
    sys.stdout.write(json.dumps([[count, stack] for stack, count in taken.items()]) + "\n")
    sys.stdout.flush()
    sys.stdin.readline()


main()
