"""Where CPython keeps what is read of it, by version.

From 3.13 on the interpreter publishes the offsets of its own structures at the start of `_PyRuntime`. Those of 3.11 and
3.12 are in a table here, from their headers.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heap_trace.python import NOWHERE, PythonFrames

if TYPE_CHECKING:
    from collections.abc import Mapping

COOKIE = b"xdebugpy"
# Offsets within the interpreter's structures: the largest of them is some 100 KB long.
MAX_OFFSET = 1 << 20
WORD = 8
# The program reads a frame up to its owner, in words: PYTHON_FRAME_WORDS of native/trace/src/python_frames.h.
MAX_IN_A_FRAME = 16 * WORD - 1
_BEFORE_THE_OWNER = ("frame.previous", "frame.executable", "frame.instr_ptr")


@dataclass(frozen=True)
class CodeLayout:
    """Offsets, in bytes, within a code object, a string and a bytes object."""

    qualname: int
    filename: int
    linetable: int
    first_line: int
    instructions: int
    text_length: int
    text_state: int
    ascii_bytes: int  # of a string's head, before ASCII; before other text the two words of its UTF-8 as well
    wide_bytes: int
    bytes_length: int
    bytes_start: int


def published_bytes(minor: tuple[int, int]) -> int:
    """How many bytes a version publishes of itself, as far as they are read."""
    return len(COOKIE) + WORD * len(PUBLISHED[minor])


def layouts_of(published: bytes, minor: tuple[int, int]) -> tuple[PythonFrames, CodeLayout]:
    """The layouts that an interpreter publishes.

    Args:
        published: `published_bytes` from `_PyRuntime` on.
        minor: the version, such as (3, 13).

    Raises:
        ValueError: these are no offsets that can be used: the text goes on after "this Python".
    """
    names = PUBLISHED[minor]
    values = dict(zip(names, struct.unpack_from(f"={len(names)}Q", published, len(COOKIE)), strict=True))
    version = values.pop("version")
    if not published.startswith(COOKIE) or (version >> 24 & 0xFF, version >> 16 & 0xFF) != minor:
        raise ValueError("publishes no offsets")
    if values.pop("free_threaded"):
        raise ValueError("is built without the interpreter's lock")
    before = max(values[each] for each in _BEFORE_THE_OWNER)
    if max(values.values()) > MAX_OFFSET or not before + WORD <= values["frame.owner"] <= MAX_IN_A_FRAME:
        raise ValueError("publishes offsets that cannot be")
    return _layouts(values)


def _layouts(values: Mapping[str, int]) -> tuple[PythonFrames, CodeLayout]:
    frames = PythonFrames(
        interpreters=values["runtime.interpreters_head"],
        next_interpreter=values["interpreter.next"],
        threads=values["interpreter.threads_head"],
        next_thread=values["thread.next"],
        previous_thread=values["thread.prev"],
        interpreter=values["thread.interp"],
        native_id=values["thread.native_thread_id"],
        current=values["thread.current_frame"],
        indirect=NOWHERE,
        code=values["frame.executable"],
        previous=values["frame.previous"],
        instruction=values["frame.instr_ptr"],
        owner=values["frame.owner"],
        entry=NOWHERE,
    )
    code = CodeLayout(
        qualname=values["code.qualname"],
        filename=values["code.filename"],
        linetable=values["code.linetable"],
        first_line=values["code.firstlineno"],
        instructions=values["code.co_code_adaptive"],
        text_length=values["unicode.length"],
        text_state=values["unicode.state"],
        ascii_bytes=values["unicode.asciiobject_size"],
        wide_bytes=values["unicode.asciiobject_size"] + 16,
        bytes_length=values["bytes.ob_size"],
        bytes_start=values["bytes.ob_sval"],
    )
    return frames, code


# From the headers of each version, on 64-bit machines: pycore_runtime.h, pycore_interp.h, pycore_frame.h, code.h.
TABLE = {
    (3, 11): (
        PythonFrames(
            interpreters=40, next_interpreter=0, threads=16, next_thread=8, previous_thread=0, interpreter=16,
            native_id=160, current=56, indirect=8, code=32, previous=48, instruction=56, owner=69, entry=68,
        ),
        CodeLayout(
            qualname=128, filename=112, linetable=136, first_line=72, instructions=184, text_length=16, text_state=32,
            ascii_bytes=48, wide_bytes=72, bytes_length=16, bytes_start=32,
        ),
    ),
    (3, 12): (
        PythonFrames(
            interpreters=40, next_interpreter=0, threads=72, next_thread=8, previous_thread=0, interpreter=16,
            native_id=144, current=56, indirect=0, code=0, previous=8, instruction=56, owner=70, entry=NOWHERE,
        ),
        CodeLayout(
            qualname=128, filename=112, linetable=136, first_line=68, instructions=192, text_length=16, text_state=32,
            ascii_bytes=40, wide_bytes=56, bytes_length=16, bytes_start=32,
        ),
    ),
}  # fmt: skip

# The words of struct _Py_DebugOffsets after its cookie, in their order.
_RUNTIME_FIELDS = "version free_threaded runtime.size runtime.finalizing runtime.interpreters_head"
_THREAD_FIELDS = (
    "thread.size thread.prev thread.next thread.interp thread.current_frame thread.thread_id thread.native_thread_id"
    " thread.datastack_chunk thread.status"
)
_FRAME_FIELDS = "frame.size frame.previous frame.executable frame.instr_ptr frame.localsplus frame.owner"
_CODE_FIELDS = (
    "code.size code.filename code.name code.qualname code.linetable code.firstlineno code.argcount"
    " code.localsplusnames code.localspluskinds code.co_code_adaptive"
)
_DICT_FIELDS = "dict.size dict.ma_keys dict.ma_values float.size float.ob_fval long.size long.lv_tag long.ob_digit"
_TEXT_FIELDS = (
    "bytes.size bytes.ob_size bytes.ob_sval unicode.size unicode.state unicode.length unicode.asciiobject_size"
)
_STATE_FIELDS = (
    "interpreter.gc interpreter.imports_modules interpreter.sysdict interpreter.builtins interpreter.ceval_gil"
    " interpreter.gil interpreter.gil_enabled interpreter.gil_locked interpreter.gil_holder"
)
_OBJECT_FIELDS = (
    "object.size object.ob_type type.size type.tp_name type.tp_repr type.tp_flags"
    " tuple.size tuple.ob_item tuple.ob_size list.size list.ob_item list.ob_size"
)
_HEAD = f"{_RUNTIME_FIELDS} interpreter.size interpreter.id interpreter.next interpreter.threads_head"
PUBLISHED = {
    (3, 13): (
        f"{_HEAD} {_STATE_FIELDS} {_THREAD_FIELDS} {_FRAME_FIELDS} {_CODE_FIELDS}"
        f" {_OBJECT_FIELDS} {_DICT_FIELDS} {_TEXT_FIELDS}"
    ).split(),
    (3, 14): (
        f"{_HEAD} interpreter.threads_main {_STATE_FIELDS} interpreter.code_generation interpreter.tlbc_generation"
        f" {_THREAD_FIELDS} {_FRAME_FIELDS} frame.stackpointer frame.tlbc_index {_CODE_FIELDS} code.co_tlbc"
        f" {_OBJECT_FIELDS} set.size set.used set.table set.mask {_DICT_FIELDS} {_TEXT_FIELDS}"
    ).split(),
}
