"""From addresses to functions, files and lines."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Self

import pycxxfilt
from heap_trace import MAX_FRAMES
from symbolic.debuginfo import Archive
from symbolic.exceptions import SymbolicError

from diagnosis.base.errors import LabError
from diagnosis.target.libc import is_c_runtime
from diagnosis.target.objects import read_object
from diagnosis.target.start import CODE_BYTES, START_FUNCTIONS, calls_exit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from heap_trace.page_faults import FaultStack
    from symbolic.symcache import SymCache

    from diagnosis.target.objects import ElfObject
    from diagnosis.target.process import Mapping, Process

# Where distributions put the debug information that they strip from a library, by its build id.
DEBUG_FILES = Path("/usr/lib/debug/.build-id")


# x86-64's calls, as the bytes that end at the return address: E8 with a relative target, FF /2 with each addressing.
_LONGEST_CALL = 7
_CALLS = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        rb"\xe8.{4}$",
        rb"\xff[\x10-\x13\x16\x17\xd0-\xd7]$",
        rb"\xff[\x50-\x53\x55-\x57].$",
        rb"\xff[\x15\x90-\x93\x95-\x97].{4}$",
        rb"\xff\x14.$",
        rb"\xff\x54..$",
        rb"\xff\x94.{5}$",
    )
)


@dataclass(frozen=True)
class Frame:
    """One frame. ``function``, ``file`` are "" and ``line`` is 0 where the object does not say."""

    function: str
    module: str
    file: str
    line: int
    offset: int

    @property
    def name(self) -> str:
        """The function, or the module and the offset of the return address in its file."""
        return self.function or f"{self.module or 'unknown'}+{self.offset:#x}"


@dataclass(frozen=True)
class SymbolizedStack:
    """Frames, innermost first. ``broken`` where unwinding left the code, ``depth`` the addresses that were taken."""

    frames: tuple[Frame, ...]
    broken: bool
    depth: int

    @property
    def cut_short(self) -> bool:
        """True where frames are missing before the code that starts a thread, and not for want of room."""
        if self.broken or len(self.frames) < 2:
            return True
        if self.depth >= MAX_FRAMES:
            return False
        outermost = self.frames[-1]
        return not (outermost.function in START_FUNCTIONS or is_c_runtime(outermost.module))


def demangle(symbol: str) -> str:
    """A symbol of C++ or Rust as its source has it; any other as it is."""
    if not symbol.startswith(("_Z", "_R")):
        return symbol  # i, a function of C, is not int
    try:
        return pycxxfilt.demangle(symbol) or symbol
    except ValueError:
        return symbol


class _Module:
    """One mapped file, opened when its first address is looked up."""

    def __init__(self, process: Process, mapping: Mapping, debug_files: Path) -> None:
        self._mapping, self._debug_files = mapping, debug_files
        self.name = PurePosixPath(mapping.path.removesuffix(" (deleted)")).name
        # Held open: when the process has ended, nothing else leads to a file of its container or to a deleted one.
        self._file: IO[bytes] | None = None
        with contextlib.suppress(LabError, OSError):
            self._file = process.open_path(mapping).open("rb")

    @property
    def _path(self) -> Path | None:
        return Path(f"/proc/self/fd/{self._file.fileno()}") if self._file else None

    def close(self) -> None:
        if self._file:
            self._file.close()

    @cached_property
    def _object(self) -> ElfObject | None:
        try:
            return read_object(self._path, self._mapping.path) if self._path else None
        except LabError:
            return None

    @cached_property
    def _symbols(self) -> list[SymCache]:
        """The most detailed first: separate debug information, then the object's own."""
        build_id = self._object.build_id if self._object else ""
        separate = self._debug_files / build_id[:2] / f"{build_id[2:]}.debug"
        caches = []
        for path in (separate if build_id and separate.exists() else None, self._path):
            if path is None:
                continue
            try:
                caches.append(next(Archive.open(str(path)).iter_objects()).make_symcache())
            except (SymbolicError, StopIteration, OSError):
                continue  # there are no symbols here: the frame keeps its module and offset
        return caches

    def _offset(self, address: int) -> int:
        """Where in the file an address lies."""
        return address - self._mapping.start + self._mapping.offset

    def follows_call(self, address: int) -> bool:
        """True where the instruction before an address is a call, so that it can be a return address."""
        if not self._file:
            return False
        offset = self._offset(address)
        before = os.pread(self._file.fileno(), _LONGEST_CALL, max(0, offset - _LONGEST_CALL))
        return any(pattern.search(before) for pattern in _CALLS)

    def runs_main(self, address: int) -> bool:
        """True where the code at a return address is the C library's that calls main and then exit."""
        if not self._file or not self._object or not is_c_runtime(self.name):
            return False
        offset = self._offset(address)
        own = self._object.address_of(offset)
        return own is not None and calls_exit(self._object, os.pread(self._file.fileno(), CODE_BYTES, offset), own)

    def frames(self, address: int) -> list[Frame]:
        """The frame at a return address, with the functions inlined there, innermost first."""
        if not self._mapping.path.startswith("/"):  # generated code, the vdso
            return [Frame("", self.name or "[anonymous]", "", 0, address - self._mapping.start)]
        offset = self._offset(address)
        # A return address is the instruction after the call: one byte back is inside the call.
        own = self._object.address_of(offset - 1) if self._object else None
        if self._object and own is not None:
            own -= self._object.base  # symbolic counts from there
        for cache in self._symbols if own is not None else ():
            found = [
                Frame(demangle(place.symbol or ""), self.name, place.full_path or "", place.line or 0, offset)
                for place in cache.lookup(own)  # type: ignore[no-untyped-call] # symbolic types the rest
            ]
            if found:
                return found
        return [Frame("", self.name, "", 0, offset)]


class Symbolizer:
    """Looks addresses up in what a process has mapped. Use it as a context manager: it holds the mapped files open.

    Args:
        process: whose addresses these are.
        debug_files: where separate debug information lies by build id.
    """

    def __init__(self, process: Process, debug_files: Path = DEBUG_FILES) -> None:
        self._process = process
        self._debug_files = debug_files
        self._known: dict[int, list[Frame]] = {}
        self._starting: dict[int, bool] = {}
        self._modules: dict[Mapping, _Module] = {}

    def refresh(self) -> None:
        """Read what is mapped now. Files that were mapped before are kept: their addresses are in earlier stacks."""
        try:
            executable = [mapping for mapping in self._process.maps() if mapping.executable]
        except LabError:
            return  # it has ended: what was read before stays valid
        for mapping in executable:
            if mapping not in self._modules:
                self._modules[mapping] = _Module(self._process, mapping, self._debug_files)
                self._known.clear()
                self._starting.clear()

    def close(self) -> None:
        """Close the mapped files."""
        for module in self._modules.values():
            module.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def symbolize(self, addresses: Sequence[int]) -> SymbolizedStack:
        """A stack of return addresses, innermost first.

        Unwinding by frame pointers is wrong in code that was built without them: it then takes whatever the frame
        register held for a frame. An address where no code is mapped shows that, and the stack is cut there: it is
        broken, unless it had come to its end before.
        """
        frames: list[Frame] = []
        for i, address in enumerate(addresses):
            found = self._known.get(address)
            if found is None:
                found = self._known[address] = self._lookup(address)
            if not found:
                whole = bool(frames) and self._starts(addresses[i - 1], frames[-1])
                return SymbolizedStack(tuple(frames), broken=not whole, depth=len(addresses))
            frames += found
        return SymbolizedStack(tuple(frames), broken=not addresses, depth=len(addresses))

    def symbolize_fault(self, stack: FaultStack) -> SymbolizedStack:
        """The stack of a page fault: its first frame is the faulting instruction itself, not a return address.

        memset and its like have no frame of their own, and the frame pointers lead past the function that called them.
        Its return address then is the word at the stack pointer. It is taken for that where it follows a call, in the
        object that the frame after it is in, and the faulting instruction is in another.
        """
        first, *rest = stack.frames
        leaf, caller = self._module(first), self._module(rest[0]) if rest else None
        addresses = [first + 1, *rest]
        if leaf and caller and leaf.name != caller.name and stack.top != rest[0]:
            module = self._find(stack.top)
            if module and module.name == caller.name and module.follows_call(stack.top):
                addresses.insert(1, stack.top)
        return self.symbolize(addresses)

    def _starts(self, address: int, frame: Frame) -> bool:
        """True where a return address is in the code that starts a thread."""
        found = self._starting.get(address)
        if found is None:
            module = self._find(address)
            found = self._starting[address] = (frame.function in START_FUNCTIONS and frame.function != "main") or (
                module is not None and module.runs_main(address)
            )
        return found

    def _lookup(self, address: int) -> list[Frame]:
        module = self._module(address)
        return module.frames(address) if module else []

    def _module(self, address: int) -> _Module | None:
        """What is mapped at an address, also if it has been since the last look."""
        module = self._find(address)
        if module is None:
            self.refresh()
            module = self._find(address)
        return module

    def _find(self, address: int) -> _Module | None:
        """The newest mapping at an address: an older one there has been unmapped since."""
        return next(
            (module for mapping, module in reversed(self._modules.items()) if mapping.start <= address < mapping.end),
            None,
        )
