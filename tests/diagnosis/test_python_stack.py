"""Python functions in native stacks: where they are put, and who is named then. On made stacks and made memory."""

from __future__ import annotations

import itertools
import mmap
import os
import struct
from types import CodeType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from heap_trace import Ending, PythonCall, PythonEnding, Stack

from diagnosis.report.site import CallSite, call_site
from diagnosis.target.parser.empty_symbols import hide_empty_functions
from diagnosis.target.python import is_interpreter
from diagnosis.target.python_code import NO_FUNCTION, UNKNOWN, CodeReader, PythonFrame, PythonStack, decode_lines
from diagnosis.target.python_layouts import CodeLayout
from diagnosis.target.python_stack import merge
from diagnosis.target.stack import Frame, SymbolizedStack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EVAL = "_PyEval_EvalFrameDefault"


def native(*names: str, ending: Ending = Ending.START) -> SymbolizedStack:
    frames = tuple(Frame(name, "python3", "", 0, 0, interpreter=name.startswith(("_Py", "Py"))) for name in names)
    return SymbolizedStack(frames, broken=False, depth=len(names), ending=ending)


def python(*functions: str, whole: bool = True) -> PythonStack:
    """Functions by name; a / behind one says that C called it, and alone that there is none any more."""
    frames = (PythonFrame(each.rstrip("/"), "app.py", 1, called_by_c=each.endswith("/")) for each in functions)
    return PythonStack(tuple(NO_FUNCTION if not each.function else each for each in frames), whole)


def names(frames: tuple[Frame, ...] | None) -> str:
    return " ".join(("*" if frame.python else "") + frame.name for frame in frames or ())


def test_each_native_frame_of_the_interpreter_becomes_the_functions_that_it_ran() -> None:
    merged = merge(native("malloc", EVAL, "PySort", EVAL, "main"), python("key/", "sort", "work", "<module>/"))
    assert names(merged) == "malloc *key PySort *sort *work *<module> main"


@pytest.mark.parametrize(
    "part", ["_PyEval_EvalFrameDefault.cold", "_TAIL_CALL_CALL_PY", "_PyEval_EvalFrameDefault.isra.0"]
)
def test_parts_of_the_interpreter_are_known(part: str) -> None:
    assert names(merge(native("malloc", part, "main"), python("f/"))) == "malloc *f main"


def test_a_stack_that_is_cut_short_has_the_functions_beyond_its_end() -> None:
    merged = merge(native("malloc", EVAL, "PySort", ending=Ending.NO_TABLE), python("key/", "work", "<module>/"))
    assert names(merged) == "malloc *key PySort *work *<module>"


def test_functions_of_which_the_outermost_were_not_kept_are_put_from_the_inner_end_on() -> None:
    merged = merge(native("malloc", EVAL, "PySort", EVAL, "main"), python("key/", "sort", whole=False))
    assert names(merged) == "malloc *key PySort *sort main"


def test_a_native_frame_that_has_ended_its_function_stays_as_it_is() -> None:
    """What it clears is freed by code of its own, which can call Python again."""
    stack = native("malloc", EVAL, "dealloc", EVAL, "PyMap", EVAL, "main")
    assert names(merge(stack, python("del/", "/", "<module>/"))) == f"malloc *del dealloc {EVAL} PyMap *<module> main"


@pytest.mark.parametrize("functions", [("f/",), ("f/", "g/", "h/")])
def test_whole_stacks_that_do_not_match_are_not_merged(functions: tuple[str, ...]) -> None:
    assert merge(native("malloc", EVAL, "PySort", EVAL, "main"), python(*functions)) is None


def frame(name: str, module: str = "python3.11", **kind: bool) -> Frame:
    return Frame(name, module, "", 0, 0, **kind)


def test_memory_that_only_the_interpreter_took_is_its_innermost_functions() -> None:
    frames = [frame("list_resize", interpreter=True), frame("grow", python=True), frame("handle", python=True)]
    assert call_site(frames) == CallSite("grow", "handle")


def test_c_that_python_calls_is_named_first_and_the_function_that_called_it_second() -> None:
    inner = [
        frame("leak_buf", "ext.so"),
        frame("ffi_call", "libffi.so.8.1.2"),
        frame("", "_ctypes.so", interpreter=True),
    ]
    assert call_site([*inner, frame("parse_upload", python=True)]) == CallSite("leak_buf", "parse_upload")


def test_a_stack_of_the_interpreter_without_python_functions_is_named_as_before() -> None:
    frames = [frame("list_resize", interpreter=True), frame("PyEval", interpreter=True)]
    assert call_site(frames) == CallSite("list_resize", "PyEval")


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("/usr/bin/python3.11", True),
        ("/opt/lib/libpython3.13.so.1.0", True),
        ("/usr/lib/python3.11/lib-dynload/_ctypes.cpython-311-x86_64-linux-gnu.so", True),
        ("/app/ext.cpython-311-x86_64-linux-gnu.so", False),
        ("/usr/bin/ipython-kernel", False),
        ("/usr/lib/libboost_python311.so.1.74.0", False),
    ],
)
def test_files_of_the_interpreter(path: str, is_one: bool) -> None:
    assert is_interpreter(path) is is_one


EACH_KIND_OF_LINE = """
def each(first):
    total = 0
    for i in first:
        try:
            total += [j for j in (i, -i) if j][0]
        except IndexError:
            total -= 1
        finally:
            total += (lambda: 1)()
    with open(total) as stream: yield total
    return (
        total
        + 1
        + len(
            str(total),
        )
    )
"""
FAR_LINES = "a = 1\n" + "\n" * 5000 + "b = " + "[\n" * 40 + "a" + "\n]" * 40 + "\nc = 2\n"


def codes_of(code: CodeType) -> list[CodeType]:
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    return [code, *(found for each in inner for found in codes_of(each))]


CODES = [each for text in (EACH_KIND_OF_LINE, FAR_LINES) for each in codes_of(compile(text, "made", "exec"))]


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.co_name)
def test_lines_are_those_that_python_itself_finds(code: CodeType) -> None:
    found: dict[int, int] = {}
    ranges = [*decode_lines(code.co_linetable, code.co_firstlineno), (len(code.co_code) // 2, 0)]
    for (unit, line), (end, _) in itertools.pairwise(ranges):
        found.update(dict.fromkeys(range(unit, end), line))
    expected = {unit: line or 0 for start, end, line in code.co_lines() for unit in range(start // 2, end // 2)}
    assert found == expected


@pytest.mark.parametrize("table", [b"", b"\xf8", b"\xf0\xff\xff\xff\xff\xff\xff\xff\xff", bytes(range(256))])
def test_a_table_of_lines_that_is_none_ends(table: bytes) -> None:
    for unit, line in decode_lines(table, 5):
        assert 0 <= unit <= 8 * len(table)
        assert line >= 0


LAYOUT = CodeLayout(
    qualname=0, filename=8, linetable=16, first_line=24, instructions=32, text_length=0, text_state=8, ascii_bytes=16,
    wide_bytes=24, bytes_length=0, bytes_start=8,
)  # fmt: skip
CODE = 0x1000


@pytest.fixture
def memory(tmp_path: Path) -> Callable[..., CodeReader]:
    """A file in place of a process's memory: a code object at CODE, and what it holds."""
    path = tmp_path / "mem"

    def put(function: str = "f", **broken: int) -> CodeReader:
        data = bytearray(0x8000)
        kind = 1 if function.isascii() else 2
        encoded = function.encode("ascii" if kind == 1 else "utf-16-le")
        state = kind << 2 | 1 << 5 | (kind == 1) << 6
        length = broken.get("length", len(function))
        data[0x2000:0x200C] = struct.pack("=qI", length, broken.get("state", state))
        start = 0x2000 + (LAYOUT.ascii_bytes if kind == 1 else LAYOUT.wide_bytes)
        data[start : start + len(encoded)] = encoded
        data[0x3000:0x300C] = struct.pack("=qI", 6, 1 << 2 | 1 << 5 | 1 << 6)
        data[0x3010:0x3016] = b"app.py"
        data[0x4000:0x400A] = struct.pack("=q", broken.get("lines", 2)) + b"\xe8\x04"  # one range, two lines down
        pointers = (broken.get("qualname", 0x2000), 0x3000, 0x4000)
        data[CODE : CODE + 28] = struct.pack("=3Qi", *pointers, 7)
        path.write_bytes(data)
        process: Any = SimpleNamespace(open_memory=lambda: os.open(path, os.O_RDONLY))
        return CodeReader(process, LAYOUT)

    return put


def stacks(code: int = CODE, offset: int = 32) -> dict[int, Stack]:
    calls = (PythonCall(code, offset, called_by_c=False), PythonCall(0, 0, called_by_c=True))
    return {1: Stack((1,), Ending.START, calls, PythonEnding.WHOLE)}


def test_a_code_object_has_its_name_file_and_line(memory: Callable[..., CodeReader]) -> None:
    expected = PythonStack((PythonFrame("größe_日本", "app.py", 9, called_by_c=True),), whole=True)
    assert memory("größe_日本").named(stacks()) == {1: expected}


FUNCTION, MARK = PythonCall(CODE, 32, called_by_c=False), PythonCall(0, 0, called_by_c=True)
NAMED = PythonFrame("f", "app.py", 9, called_by_c=True)


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ((FUNCTION, MARK, MARK), (NAMED,)),  # of 3.14: the last is its thread's
        ((MARK, FUNCTION, MARK), (NO_FUNCTION, NAMED)),
        ((FUNCTION, MARK, MARK, FUNCTION, MARK), (NAMED, NO_FUNCTION, NAMED)),
        ((MARK,), ()),
    ],
)
def test_a_mark_without_a_function_is_a_native_frame_that_runs_none_any_more(
    calls: tuple[PythonCall, ...], expected: tuple[PythonFrame, ...], memory: Callable[..., CodeReader]
) -> None:
    stack = Stack((1,), Ending.START, calls, PythonEnding.WHOLE)
    assert memory().named({1: stack})[1].frames == expected


def test_a_function_that_is_about_to_begin_is_at_its_first_line(memory: Callable[..., CodeReader]) -> None:
    assert memory().named(stacks(offset=30))[1].frames[0].line == 7


def test_another_code_object_at_the_same_address_has_its_own_name(
    memory: Callable[..., CodeReader], tmp_path: Path
) -> None:
    reader = memory("first")
    assert reader.named(stacks())[1].frames[0].function == "first"
    data = bytearray((tmp_path / "mem").read_bytes())
    data[0x5000:0x5020] = data[0x2000:0x2020]
    data[0x5010:0x5015] = b"other"
    data[CODE : CODE + 8] = struct.pack("=Q", 0x5000)
    with (tmp_path / "mem").open("r+b") as stream:
        stream.write(data)
    assert reader.named(stacks())[1].frames[0].function == "other"


def test_control_characters_in_a_name_are_shown_by_their_numbers(memory: Callable[..., CodeReader]) -> None:
    assert memory("a\x1b[2J").named(stacks())[1].frames[0].function == r"a\x1b[2J"


@pytest.mark.parametrize(
    "broken",
    [
        {"length": -1}, {"length": 1 << 40}, {"state": 0}, {"state": 0xFFFFFFFF}, {"qualname": 1 << 63},
        {"qualname": 0x7FFF}, {"lines": 1 << 40}, {"lines": -1},
    ],
)  # fmt: skip
def test_memory_that_is_no_code_object_has_no_name(memory: Callable[..., CodeReader], broken: dict[str, int]) -> None:
    assert memory(**broken).named(stacks())[1].frames == (PythonFrame(UNKNOWN, "", 0, called_by_c=True),)


@pytest.mark.parametrize("address", [8, 0x7FF0, 1 << 47, (1 << 64) - 8])
def test_a_code_object_that_is_not_mapped_has_no_name(memory: Callable[..., CodeReader], address: int) -> None:
    reader = memory()
    assert reader.named(stacks(address))[1].frames[0].function in (UNKNOWN, "")


def test_an_empty_part_of_a_function_gives_no_other_one_its_name() -> None:
    symbols = [(0x40, 8), (0x40, 0), (0x80, 0), (0x90, 16)]
    table = b"".join(struct.pack("<IBBHQQ", 1, 0x12, 0, 1, address, size) for address, size in symbols)
    copy = mmap.mmap(-1, len(table) + 3)
    copy[: len(table)] = table
    hide_empty_functions(copy, 0, len(table) + 3)
    kinds = [copy[i * 24 + 4] & 15 for i in range(len(symbols))]
    assert kinds == [2, 0, 2, 2]  # the third is an assembler's function without a size
