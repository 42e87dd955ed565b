"""What unwinding needs of an object that its call frame information does not say: the parser looks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elftools.common.exceptions import ELFError

from diagnosis.target.parser.elf import names, span_of
from diagnosis.target.parser.elf_headers import PT_LOAD, open_elf, read_segments
from diagnosis.target.parser.facts import Framed, ReturnedTo, UnwindFacts
from diagnosis.target.parser.go_code import go_code

if TYPE_CHECKING:
    from collections.abc import Iterator

    from heap_trace.unwind import Code

    from diagnosis.target.parser.bounded_file import BoundedFile
    from diagnosis.target.parser.facts import Segment

# Known by its bytes, by machine: the code, and whether signal handlers return to it. rt_sigreturn: glibc and musl write
# `mov $15, %rax; syscall`, Go `mov $15, %eax; syscall`, arm64's C libraries and kernel `mov x8, #139; svc #0`. Its call
# frame information is expressions, which symbolic leaves out. And where glibc's coroutines end, __start_context: `mov
# %rbx, %rsp; mov (%rsp), %rdi; test %rdi, %rdi`. And where musl's threads end, __clone: `mov %eax, %edi; xor %eax,
# %eax; mov $60, %al; syscall; hlt`.
PATTERNS = {
    "x64": (
        (b"\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05", True),
        (b"\xb8\x0f\x00\x00\x00\x0f\x05", True),
        (b"\x48\x89\xdc\x48\x8b\x3c\x24\x48\x85\xff", False),
        (b"\x89\xc7\x31\xc0\xb0\x3c\x0f\x05\xf4", False),
    ),
    "AArch64": ((b"\x68\x11\x80\xd2\x01\x00\x00\xd4", True),),
}
_LONGEST = 16
_PIECE = 4 << 20
# Of code that is looked through: more than any object has. Each pattern is found once or twice in a C library.
MAX_CODE = 512 << 20
MAX_FOUND = 64

# V8's built-in functions, which Node and others have in their own file: they lie together, call frame information says
# nothing of them, and all that call anything keep the frame pointer, as the code does that V8 makes at run time.
V8_BUILTINS = "Builtins_"
# Where a distribution has stripped these names, what else V8 exports tells that they are there, though not where.
V8_CODE = "_ZNK2v88internal7Isolate18embedded_blob_codeEv"


def read_unwind_facts(descriptor: int) -> UnwindFacts:
    """Segments, entry point, the code that functions return to, and that which keeps frame pointers.

    Raises:
        ELFError: the file is no ELF file.
    """
    stream, elf = open_elf(descriptor)
    found: list[ReturnedTo] = []
    patterns = PATTERNS.get(elf.get_machine_arch(), ())
    left = MAX_CODE
    segments = read_segments(stream, elf, PT_LOAD)
    for segment in segments:
        if segment.executable and segment.size <= left and len(found) < MAX_FOUND:
            left -= segment.size
            found += _find(stream, segment, patterns)
    framed, go = _framed(descriptor, segments), _go(descriptor)
    return UnwindFacts(segments, elf["e_entry"], tuple(found[:MAX_FOUND]), framed, go)


def _framed(descriptor: int, segments: tuple[Segment, ...]) -> tuple[Framed, ...]:
    try:
        if span := span_of(descriptor, V8_BUILTINS):
            return (Framed(*span),)
        if names(descriptor, V8_CODE, ".dynsym"):
            return tuple(Framed(each.address, each.address + each.size) for each in segments if each.executable)
    except ELFError:
        pass  # too many symbols, or broken ones: the call frame information can be sound
    return ()


def _go(descriptor: int) -> tuple[Code, ...]:
    try:
        return go_code(descriptor)
    except ELFError:
        return ()  # as above


def _find(stream: BoundedFile, segment: Segment, patterns: tuple[tuple[bytes, bool], ...]) -> Iterator[ReturnedTo]:
    for start in range(0, segment.size, _PIECE):
        stream.seek(segment.offset + start)
        piece = stream.read(min(_PIECE + _LONGEST, segment.size - start))  # what lies across two pieces is in the first
        for pattern, is_signal in patterns:
            at = piece.find(pattern)
            while 0 <= at < _PIECE:
                yield ReturnedTo(segment.address + start + at, len(pattern), is_signal)
                at = piece.find(pattern, at + 1)
