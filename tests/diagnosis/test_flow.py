"""Functions in assembler, whose ways out are labelled."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import pytest

from diagnosis.target.parser.flow import Flow
from diagnosis.target.parser.linkage import Linkage
from tests.support.programs import compile_c

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the code is x86-64's")

# `f` is the function; `out_*` are its ways out, `other` and `heap` are functions of the same file.
HEAD = """
    .text
    .globl f, other, heap
    .type f, @function
    .type other, @function
    .type heap, @function
"""
OTHERS = """
    other: test %rdi, %rdi
        jz 1f
        mov %rdi, (%rsi)
    out_other: ret
    1: ud2
    heap: mov %rdi, (%rsi)
    ret
"""

BRANCHES = {
    "straight": "f: mov %rdi, %rax\n out_a: ret",
    "two ways": "f: test %rdi, %rdi\n jz 1f\n out_a: ret\n 1: xor %eax, %eax\n out_b: ret",
    "a loop": "f: dec %rdi\n jnz f\n out_a: ret",
    "a call comes back": "f: push %rbx\n call other\n pop %rbx\n out_a: ret",
    "a call by pointer comes back": "f: call *%rax\n out_a: ret",
    "a cold part elsewhere": """
        f: test %rdi, %rdi
            jz cold
        out_a: ret
        .section .text.unlikely, "ax", @progbits
        cold: test %rsi, %rsi
            jz 1f
        out_b: ret
        1: call abort@PLT
        .text
    """,
    "nothing after a throw is read": "f: test %rdi, %rdi\n jz 1f\n out_a: ret\n 1: call __cxa_throw@PLT\n jmp *%rax",
    "nothing after a throw in the same file is read": """
        f: test %rdi, %rdi
            jz 1f
        out_a: ret
        1: call abort
        jmp *%rax
        .type abort, @function
        abort: ud2
    """,
    "a tail call": "f: test %rdi, %rdi\n jnz .Lother\n out_a: ret\n .set .Lother, other",
    "a tail call by the linkage table": "f: test %rdi, %rdi\n jz 1f\n out_a: ret\n 1: jmp other@PLT",
}
TAILS = {"a tail call", "a tail call by the linkage table"}

HIDDEN = {
    "a jump by register": ("f: test %rdi, %rdi\n jz 1f\n jmp *%rax\n 1: ret", "cannot be read from its code"),
    "a jump by memory": ("f: jmp *(%rdi,%rax,8)", "cannot be read from its code"),
    "a tail call out of the file": ("f: jmp puts@PLT", "puts of another file"),
    "no code": ("f: .byte 0x06", "cannot be read from its code"),
    "no way out": ("f: ud2", "it never returns"),
    "too much": ("f: .rept 6000\n inc %rax\n .endr\n ret", "more than 5,000 instructions"),
}

WRAPPERS = {
    "a call": "f: push %rbx\n 1: call malloc@PLT\n test %rax, %rax\n jz 1b\n pop %rbx\n ret",
    "a jump": "f: endbr64\n jmp malloc@PLT",
    "a jump without the linkage table": "f: jmp *malloc@GOTPCREL(%rip)",
    "a jump in the file": "f: jmp .Lheap\n .set .Lheap, heap",
    "arguments checked before": "f: test %rdi, %rdi\n jz 1f\n call malloc@PLT\n 1: ret",
    "a call before": "f: call getpid@PLT\n call malloc@PLT\n ret",
}
SERVERS = {
    "no call": "f: mov %rdi, (%rsi)\n ret",
    "a way of its own": "f: cmp $64, %rdi\n ja 1f\n mov %rdi, (%rsi)\n ret\n 1: jmp malloc@PLT",
    "a call of its own": "f: cmp $64, %rdi\n ja 1f\n call getpid@PLT\n ret\n 1: jmp malloc@PLT",
    "a pointer": "f: cmp $64, %rdi\n ja 1f\n jmp *%rax\n 1: jmp malloc@PLT",
    "another file": "f: jmp puts@PLT",
}


class Compiled:
    """The assembled file."""

    def __init__(self, linkage: Linkage) -> None:
        functions = linkage.functions(lambda name: name in ("f", "other", "heap", "abort") or name.startswith("out_"))
        self.addresses = {name: function.address for name, function in functions.items()}
        self.flow = Flow(linkage, [self.addresses["abort"]] if "abort" in self.addresses else [])

    def is_heap(self, target: int | str) -> bool:
        return target in ("malloc", self.addresses["heap"])


@pytest.fixture
def compiled(tmp_path: Path) -> Iterator[Callable[[str], Compiled]]:
    streams = []

    def build(body: str) -> Compiled:
        labels = "".join(
            f".type {word[:-1]}, @function\n"
            for word in (body + OTHERS).split()
            if word.startswith("out_") and word.endswith(":")
        )
        text = "".join(
            f'"{line.strip()}\\n"\n' for line in (HEAD + labels + body + OTHERS).replace('"', '\\"').split("\n")
        )
        stream = compile_c(f"__asm__({text});\n", tmp_path / "shape.so", "-shared").open("rb")
        streams.append(stream)
        return Compiled(Linkage(stream.fileno()))

    yield build
    for stream in streams:
        stream.close()


@pytest.mark.parametrize("shape", BRANCHES)
def test_every_way_out_is_found(compiled: Callable[[str], Compiled], shape: str) -> None:
    code = compiled(BRANCHES[shape])
    exits = code.flow.exits(code.addresses["f"])
    own = {name for name in code.addresses if name.startswith("out_") and (name != "out_other" or shape in TAILS)}
    assert {name for name, address in code.addresses.items() if address in exits.addresses} == own
    assert len(exits.addresses) == len(own)
    assert exits.missing == ""


@pytest.mark.parametrize("shape", HIDDEN)
def test_where_a_way_out_cannot_be_found_it_is_said(compiled: Callable[[str], Compiled], shape: str) -> None:
    body, reason = HIDDEN[shape]
    code = compiled(body)
    exits = code.flow.exits(code.addresses["f"])
    assert exits.addresses == ()
    assert reason in exits.missing


@pytest.mark.parametrize("shape", WRAPPERS)
def test_a_function_that_only_calls_the_heap(compiled: Callable[[str], Compiled], shape: str) -> None:
    code = compiled(WRAPPERS[shape])
    assert code.flow.ends_in(code.addresses["f"], code.is_heap)


@pytest.mark.parametrize("shape", SERVERS)
def test_a_function_that_serves_by_itself(compiled: Callable[[str], Compiled], shape: str) -> None:
    code = compiled(SERVERS[shape])
    assert not code.flow.ends_in(code.addresses["f"], code.is_heap)
