from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

import pytest

from diagnosis.target.allocator import find_allocators
from diagnosis.target.objects import read_code, read_object
from diagnosis.target.parser.facts import CODE_BYTES, Placement
from diagnosis.target.placement import place
from diagnosis.target.process import Process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diagnosis.target.objects import Export

RET = "c3"


def placed(code: str) -> Placement:
    return place(bytes.fromhex(code), "x64")


@pytest.mark.parametrize(
    ("code", "instruction"),
    [
        ("55", "push rbp"),
        ("4157", "push r15"),
        ("90", "nop"),
        ("e8 00000000", "call 5"),
        ("e9 10000000", "jmp 0x15"),
        ("eb 10", "jmp 0x12"),
        ("74 10", "je 0x12"),
        ("0f85 10000000", "jne 0x16"),
    ],
)
def test_an_emulated_first_instruction_takes_the_probe(code: str, instruction: str) -> None:
    assert placed(code + RET) == Placement(0, instruction, emulated=True, reason="entry: emulated")


def test_the_emulated_instructions_are_those_of_the_kernel() -> None:
    """Every first byte, and the second ones that matter, each followed by enough for any instruction."""
    pushes, jumps = range(0x50, 0x58), range(0x70, 0x80)
    emulated = {*pushes, *jumps, 0x90, 0xE8, 0xE9, 0xEB}
    assert {byte for byte in range(256) if placed(f"{byte:02x}" + "00" * 15).emulated} == emulated
    for prefix, seconds in (("41", pushes), ("0f", range(0x80, 0x90))):
        found = {byte for byte in range(256) if placed(f"{prefix}{byte:02x}" + "00" * 15).emulated}
        # 41 90 is xchg r8, rax, with which a nop has nothing to do.
        assert found == set(seconds), prefix


@pytest.mark.parametrize(
    ("code", "delta"),
    [
        pytest.param("f30f1efa 55", 4, id="endbr64, push: Ubuntu and Fedora"),
        pytest.param("4885ff 74 05", 3, id="test rdi, je: free"),
        pytest.param("4885ff 0f84 05000000", 3, id="test rdi, je with a long displacement"),
        pytest.param("4889f8 55", 3, id="mov rax, rdi reads an argument"),
        pytest.param("488b07 48894308 55", 7, id="memory and other registers may change"),
        pytest.param("0f1f00 55", 3, id="a long nop is not emulated, and does no harm"),
        pytest.param("6690 55", 2, id="nor is a nop with a prefix"),
        pytest.param("f30f1efa 4889f8 4157", 7, id="several instructions before it"),
    ],
)
def test_the_probe_goes_on_the_first_emulated_instruction(code: str, delta: int) -> None:
    placement = placed(code + RET)
    assert (placement.delta, placement.emulated) == (delta, True)
    assert placement.reason == "first emulated instruction"


@pytest.mark.parametrize(
    "before",
    [
        pytest.param("bf01000000", id="mov edi, 1"),
        pytest.param("40b701", id="mov dil, 1"),
        pytest.param("b601", id="mov dh, 1"),
        pytest.param("31f6", id="xor esi, esi"),
        pytest.param("4883c701", id="add rdi, 1"),
        pytest.param("480fafd6", id="imul rdx, rsi"),
        pytest.param("48f7e6", id="mul rsi writes rdx, unsaid"),
        pytest.param("4887f7", id="xchg rdi, rsi"),
        pytest.param("4d89c8", id="mov r8, r9"),
        pytest.param("0fa2", id="cpuid writes ecx and edx, unsaid"),
        pytest.param("480f44f8", id="cmove rdi, rax"),
    ],
)
def test_after_a_change_of_an_argument_the_probe_stays_at_the_entry(before: str) -> None:
    placement = placed(before + "55" + RET)
    assert (placement.delta, placement.emulated) == (0, False)


@pytest.mark.parametrize(
    ("code", "arguments", "delta"),
    [
        pytest.param("4889f8 48f7e6 7010", 2, 6, id="mov rax, rdi; mul rsi; jo: calloc of glibc 2.43"),
        pytest.param("4889f0 48f7e2 4889c6 7005", 3, 0, id="mul rdx; mov rsi, rax: its reallocarray"),
        pytest.param("4989f1 4885ff 0f8444030000", 2, 6, id="mov r9, rsi; test rdi, rdi; je: its realloc"),
        pytest.param("bf01000000 55", 0, 5, id="mov edi, 1 where nothing is read"),
        pytest.param("4883ec08 55", 0, 0, id="sub rsp, 8 at any rate"),
    ],
)
def test_arguments_that_are_not_read_may_change(code: str, arguments: int, delta: int) -> None:
    placement = place(bytes.fromhex(code + RET), "x64", arguments=arguments)
    assert (placement.delta, placement.emulated) == (delta, delta > 0)


@pytest.mark.parametrize(
    "before",
    [
        pytest.param("4883ec08", id="sub rsp, 8"),
        pytest.param("83ec08", id="sub esp, 8"),
        pytest.param("4c8d542408 4883e4f0", id="and rsp, -16"),
        pytest.param("6a01", id="push 1 is not emulated"),
        pytest.param("ff7508", id="push of memory is not emulated"),
        pytest.param("58", id="pop rax"),
    ],
)
def test_after_a_change_of_the_stack_pointer_the_probe_stays_at_the_entry(before: str) -> None:
    """The return address lies at the stack pointer: a return probe would replace something else."""
    placement = placed(before + "55" + RET)
    assert (placement.delta, placement.emulated) == (0, False)


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("488b07 90 ebfd", id="a jump back to the emulated instruction"),
        pytest.param("488b07 90 4889c3 75fa", id="a conditional one"),
        pytest.param("488b07 488b0b 55 e9 f5ffffff", id="a jump back before it, behind the entry"),
    ],
)
def test_a_loop_back_into_the_start_keeps_the_probe_at_the_entry(code: str) -> None:
    """Behind the entry the probe would fire at every turn: one call would count as many."""
    placement = placed(code)
    assert (placement.delta, placement.emulated) == (0, False)


def test_a_jump_forward_over_the_emulated_instruction_is_no_loop() -> None:
    assert placed("4885ff 7401 55" + RET).delta == 3


@pytest.mark.parametrize(
    "before",
    [
        pytest.param("0f05", id="syscall"),
        pytest.param("c3", id="ret"),
        pytest.param("ffe0", id="jmp rax"),
        pytest.param("ffd0", id="call rax"),
        pytest.param("e3fe", id="jrcxz"),
        pytest.param("cc", id="int3"),
        pytest.param("f2e900000000", id="bnd jmp is not emulated"),
    ],
)
def test_behind_the_straight_line_nothing_is_probed(before: str) -> None:
    placement = placed(before + "55" + RET)
    assert (placement.delta, placement.emulated) == (0, False)


@pytest.mark.parametrize("code", ["", "06", "ff"])
def test_code_that_cannot_be_decoded_is_probed_at_the_entry(code: str) -> None:
    assert placed(code) == Placement(0, "", emulated=False, reason="entry: the code cannot be decoded")


def test_code_that_stops_to_make_sense_is_not_searched_further() -> None:
    placement = placed("4885ff 06 55")
    assert (placement.delta, placement.instruction, placement.emulated) == (0, "test rdi, rdi", False)


def test_the_last_instruction_may_be_cut_off() -> None:
    assert placed("4885ff 7405 4883").delta == 3


@pytest.mark.parametrize("machine", ["AArch64", "x86", "RISC-V"])
def test_without_rules_for_the_machine_the_probe_goes_on_the_entry(machine: str) -> None:
    placement = place(bytes.fromhex("4885ff7405"), machine)
    assert (placement.delta, placement.emulated) == (0, False)
    assert machine in placement.reason


def libc_functions() -> Iterator[tuple[Export, bytes]]:
    """Each function that this process's C library exports, with the start of its code."""
    path = find_allocators(Process(os.getpid()))[0].path
    elf = read_object(path, "libc")
    for export in elf.exports.values():
        yield export, read_code(path, elf, export, 128)


def emulated_bytes(code: bytes) -> bool:
    """The rules of arch/x86/kernel/uprobes.c once more, from the bytes alone."""
    one, two = code[:1], code[:2]
    return (
        one in (b"\xe8", b"\xe9", b"\xeb", b"\x90")
        or b"\x50" <= one <= b"\x57"
        or b"\x70" <= one <= b"\x7f"
        or b"\x41\x50" <= two <= b"\x41\x57"
        or b"\x0f\x80" <= two <= b"\x0f\x8f"
    )


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the rules are those of x86-64")
def test_every_function_of_this_machine_s_libc_gets_a_sane_place() -> None:
    moved = 0
    for export, code in libc_functions():
        placement = place(code, "x64")
        assert 0 <= placement.delta < max(1, len(code)), export
        if placement.emulated:
            assert emulated_bytes(code[placement.delta :]), export
        else:
            assert placement.delta == 0, export
        if code[:1] == b"\x55" or (code[:4] == b"\xf3\x0f\x1e\xfa" and code[4:5] == b"\x55"):
            assert placement.emulated, export
        moved += placement.delta > 0
    assert moved > 50
    assert CODE_BYTES > 128
