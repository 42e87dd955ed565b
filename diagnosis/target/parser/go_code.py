"""How stacks go on through Go's code, on x86-64: by frame pointers, also where the runtime switches stacks.

Go describes its code by DWARF, which follows neither the frame pointer's register nor a switch to another stack. But
all of its functions that call others keep the frame pointer, as the runtime's own tracebacks rely on. C's code runs on
the thread's stack, and the goroutine that has called it waits on its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from heap_trace.unwind import Code, RuleKind

from diagnosis.target.parser.elf import functions
from diagnosis.target.parser.elf_headers import PT_LOAD, open_elf, read_sections, read_segments

if TYPE_CHECKING:
    from diagnosis.target.parser.facts import Export

TEXT, ETEXT = "runtime.text", "runtime.etext"
# They switch to another stack and keep the frame pointer, which points into the first one.
SWITCHES = frozenset({"runtime.cgocallback", "runtime.systemstack"})
# Where goroutines and threads of Go start, and the scheduler, which belongs to no goroutine: these set it to 0.
STARTS = frozenset({"runtime.goexit", "runtime.mstart", "runtime.mcall", "runtime.morestack", "runtime.rt0_go"})
# How the linker marks functions that take their arguments on the stack; others jump to them.
ABI0 = ".abi0"

# Go calls C by it. It pushes the frame pointer, and puts the depth of the goroutine's stack on the thread's, with the
# goroutine 8 bytes further on: mov %rdi, 8(%rsp); mov 8(%rdi), %rdi; sub %rdx, %rdi; mov %rdi, (%rsp). Up to Go 1.24 it
# was 48(%rsp) and 40(%rsp).
TO_C = "runtime.asmcgocall"
PUSHES = bytes.fromhex("554889e5")
DEPTHS = {bytes.fromhex("48897c2408488b7f084829d748893c24"): 0, bytes.fromhex("48897c2430488b7f084829d748897c2428"): 40}

# C calls Go by it. It sets up a frame twice over: push %rbp; mov %rsp, %rbp; sub $0x30, %rsp; mov %rbp, 0x28(%rsp); lea
# 0x28(%rsp), %rbp. The first frame pointer lies where the second one points, and what belongs to it 8 bytes further on.
FROM_C = "crosscall2"
FRAME_TWICE = bytes.fromhex("554889e54883ec3048896c2428488d6c2428")
FRAME_TWICE_CFA = 24

MAX_FUNCTION = 4096


def go_code(descriptor: int) -> tuple[Code, ...]:
    """Go's code in a file that has its symbols: of two that overlap, the later one holds. Addresses are its own.

    Raises:
        ELFError: the file is no ELF file, or its symbols are not all in it, or are more than a real one has.
    """
    stream, elf = open_elf(descriptor)
    if elf.get_machine_arch() != "x64":
        return ()  # arm64's asmcgocall keeps other things elsewhere
    if not any(section.name.endswith(".gopclntab") for section in read_sections(stream, elf)):
        return ()
    found = _named(descriptor)
    if TEXT not in found or ETEXT not in found:
        return ()
    code = [Code(found[TEXT].address, found[ETEXT].address, RuleKind.FP)]
    code += [_all_of(found[name], RuleKind.SWITCHED) for name in sorted(SWITCHES & found.keys())]
    code += [_all_of(found[name], RuleKind.START) for name in sorted(STARTS & found.keys())]
    if TO_C in found:
        code.append(_to_c(found[TO_C], _code_of(descriptor, found[TO_C])))
    if FROM_C in found:
        code.append(_from_c(found[FROM_C], _code_of(descriptor, found[FROM_C])))
    return tuple(code)


def _named(descriptor: int) -> dict[str, Export]:
    """The functions that matter, by name; of two forms, the one that does the work."""
    wanted = {TEXT, ETEXT, FROM_C, TO_C} | SWITCHES | STARTS
    found: dict[str, Export] = {}
    for each in functions(descriptor, ".symtab"):
        name = each.name.removesuffix(ABI0)
        if name in wanted and (name != each.name or name not in found):
            found[name] = each
    return found


def _all_of(export: Export, kind: RuleKind, cfa: int = 16) -> Code:
    return Code(export.address, export.address + export.size, kind, cfa=cfa)


def _to_c(export: Export, code: bytes) -> Code:
    """Of another version than those that are known, the stack ends there."""
    depths = [depth for pattern, depth in DEPTHS.items() if pattern in code]
    if code.startswith(PUSHES) and depths:
        return _all_of(export, RuleKind.GO_CALLS_C, depths[0])
    return _all_of(export, RuleKind.OTHER)


def _from_c(export: Export, code: bytes) -> Code:
    """As above."""
    if code.startswith(FRAME_TWICE):
        return _all_of(export, RuleKind.FP, FRAME_TWICE_CFA)
    return _all_of(export, RuleKind.OTHER)


def _code_of(descriptor: int, export: Export) -> bytes:
    stream, elf = open_elf(descriptor)
    for header in read_segments(stream, elf, PT_LOAD):
        if 0 <= (offset := export.address - header.address) < header.size:
            stream.seek(header.offset + offset)
            return stream.read(min(export.size, MAX_FUNCTION))
    return b""
