"""Whether a process is a CPython, and where in its memory the interpreter keeps what runs.

From 3.13 on the interpreter publishes the offsets of its own structures at the start of `_PyRuntime`. Those of 3.11 and
3.12 are in a table here, from their headers, and are checked against the process before they are used.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from heap_trace.python import NOWHERE, PythonFrames

from diagnosis.base.errors import LabError
from diagnosis.target.objects import find_symbols, read_object, shared_parser
from diagnosis.target.unwinding import Layout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diagnosis.target.mapping import Mapping as MappedFile
    from diagnosis.target.parser.client import Parser
    from diagnosis.target.process import Process

RUNTIME, VERSION = "_PyRuntime", "Py_Version"
COOKIE = b"xdebugpy"
SUPPORTED = "3.11 to 3.14"

# Files that an interpreter can be in: python3.11, libpython3.13.so.1.0. Extensions have python in their names as well.
_INTERPRETER = re.compile(r"(lib)?python3?(\.\d+)?([dt]*)(\.so[.\d]*)?$")
# Thread states that are looked at to see whether the offsets are right.
MAX_THREADS = 64
# Offsets within the interpreter's structures: the largest of them is some 100 KB long.
MAX_OFFSET = 1 << 20
# Offsets within a frame that the program reads: PYTHON_FRAME_BYTES of native/trace/src/python_frames.bpf.h.
MAX_IN_A_FRAME = 71
_IN_A_FRAME = ("frame.previous", "frame.executable", "frame.instr_ptr", "frame.owner")


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


@dataclass(frozen=True)
class Interpreter:
    """The CPython of a process: its version, and how to read its frames and its code objects."""

    version: str
    frames: PythonFrames
    code: CodeLayout


@dataclass(frozen=True)
class FoundPython:
    """What was found: an interpreter, or why its frames cannot be named; neither for a process that is no Python."""

    interpreter: Interpreter | None = None
    reason: str = ""


def is_interpreter(path: str) -> bool:
    """True for the file of an interpreter, or of an extension that comes with it."""
    return bool(_INTERPRETER.fullmatch(path.rpartition("/")[2])) or "/lib-dynload/" in path


def find_python(process: Process, parser: Parser | None = None) -> FoundPython:
    """The interpreter of a process.

    Raises:
        LabError: the process has ended, or is another user's.
    """
    parser = parser or shared_parser()
    reason = ""
    for mapping in _candidates(process):
        try:
            found = _in_file(process, mapping, parser)
        except LabError as error:
            if not process.alive():
                raise
            return FoundPython(reason=f"{mapping.label} cannot be read: {error}")
        if found.interpreter:
            return found
        reason = reason or found.reason
    return FoundPython(reason=reason)


def _candidates(process: Process) -> list[MappedFile]:
    files = {each.file: each for each in reversed(process.code_maps()) if each.path.startswith("/")}
    return [each for each in files.values() if _INTERPRETER.fullmatch(each.name)]


def _in_file(process: Process, mapping: MappedFile, parser: Parser) -> FoundPython:
    path = process.open_path(mapping)
    symbols = find_symbols(path, (), (RUNTIME, VERSION), parser).variables
    if RUNTIME not in symbols:  # a launcher whose interpreter is a library, or a static build without exports
        return FoundPython(reason=f"{mapping.label} exports no {RUNTIME}")
    layout = Layout(read_object(path, mapping.label, names=(), parser=parser).segments)
    start = layout.address_of(mapping.offset)
    if start is None:
        return FoundPython(reason=f"{mapping.label} is mapped in an unknown way")
    bias = mapping.start - start - layout.base
    memory = process.open_memory()
    try:
        runtime = bias + symbols[RUNTIME].address
        version = None
        if VERSION in symbols:
            (version,) = struct.unpack("=Q", read_memory(memory, bias + symbols[VERSION].address, 8))
        return _by_version(process, memory, runtime, version)
    except OSError as error:
        return FoundPython(reason=f"{mapping.label} cannot be read in the process: {error.strerror}")
    finally:
        os.close(memory)


def _by_version(process: Process, memory: int, runtime: int, version: int | None) -> FoundPython:
    if version is None:
        return FoundPython(reason=f"this Python is older than 3.11: frames of {SUPPORTED} are known")
    minor = version >> 24 & 0xFF, version >> 16 & 0xFF
    name = f"{minor[0]}.{minor[1]}.{version >> 8 & 0xFF}"
    if minor in _TABLE:
        frames, code = _TABLE[minor]
        found = FoundPython(Interpreter(name, replace(frames, runtime=runtime), code))
    elif minor in _PUBLISHED:
        names = _PUBLISHED[minor]
        published = read_memory(memory, runtime, len(COOKIE) + 8 * len(names))
        values = dict(zip(names, struct.unpack_from(f"={len(names)}Q", published, len(COOKIE)), strict=True))
        refusal = _refusal(published, values, version)
        found = FoundPython(reason=f"this Python {name} {refusal}") if refusal else _published(name, runtime, values)
    else:
        found = FoundPython(reason=f"this is Python {name}: frames of {SUPPORTED} are known")
    if found.interpreter and not _holds(process, memory, found.interpreter.frames):
        return FoundPython(reason=f"this Python {name} has its threads elsewhere: it is built in another way")
    return found


def _refusal(published: bytes, values: Mapping[str, int], version: int) -> str:
    """Why published offsets cannot be used; "" where they can."""
    if not published.startswith(COOKIE) or values["version"] >> 16 != version >> 16:
        return "publishes no offsets"
    if values["free_threaded"]:
        return "is built without the interpreter's lock"
    offsets = [each for field, each in values.items() if field != "version"]
    if max(offsets) > MAX_OFFSET or max(values[each] for each in _IN_A_FRAME) > MAX_IN_A_FRAME:
        return "publishes offsets that cannot be"
    return ""


def _holds(process: Process, memory: int, frames: PythonFrames) -> bool:
    """True where the offsets lead to a thread of the process, or where the interpreter has not begun yet."""
    interpreter = _word(memory, frames.runtime + frames.interpreters)
    if not interpreter:
        return True
    ids = process.thread_ids()
    try:
        state = _word(memory, interpreter + frames.threads)
        for _ in range(MAX_THREADS):
            if not state:
                break
            if _word(memory, state + frames.native_id) in ids:
                return True
            state = _word(memory, state + frames.next_thread)
    except OSError:
        pass
    return False


def read_memory(memory: int, address: int, size: int) -> bytes:
    """Bytes of the process's memory, all of them.

    Raises:
        OSError: they are not mapped.
    """
    try:
        found = os.pread(memory, size, address)
    except OverflowError:
        found = b""
    if len(found) < size:
        raise OSError(0, "it is not mapped")
    return found


def _word(memory: int, address: int) -> int:
    return int(struct.unpack("=Q", read_memory(memory, address, 8))[0])


def _published(version: str, runtime: int, values: Mapping[str, int]) -> FoundPython:
    frames = PythonFrames(
        runtime=runtime,
        interpreters=values["runtime.interpreters_head"],
        next_interpreter=values["interpreter.next"],
        threads=values["interpreter.threads_head"],
        next_thread=values["thread.next"],
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
    return FoundPython(Interpreter(version, frames, code))


# From the headers of each version, on 64-bit machines: pycore_runtime.h, pycore_interp.h, pycore_frame.h, code.h.
_TABLE = {
    (3, 11): (
        PythonFrames(
            interpreters=40, next_interpreter=0, threads=16, next_thread=8, native_id=160, current=56, indirect=8,
            code=32, previous=48, instruction=56, owner=69, entry=68,
        ),
        CodeLayout(
            qualname=128, filename=112, linetable=136, first_line=72, instructions=184, text_length=16, text_state=32,
            ascii_bytes=48, wide_bytes=72, bytes_length=16, bytes_start=32,
        ),
    ),
    (3, 12): (
        PythonFrames(
            interpreters=40, next_interpreter=0, threads=72, next_thread=8, native_id=144, current=56, indirect=0,
            code=0, previous=8, instruction=56, owner=70, entry=NOWHERE,
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
_PUBLISHED = {
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
