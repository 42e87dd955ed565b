"""From addresses to functions, files and lines."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from symbolic.debuginfo import Archive
from symbolic.exceptions import SymbolicError

from diagnosis.errors import LabError
from diagnosis.objects import read_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from symbolic.symcache import SymCache

    from diagnosis.objects import ElfObject
    from diagnosis.process import Mapping, Process

# Where distributions put the debug information that they strip from a library, by its build id.
DEBUG_FILES = Path("/usr/lib/debug/.build-id")


@dataclass(frozen=True)
class Frame:
    """One frame. ``function``, ``file`` are "" and ``line`` is 0 where the object does not tell."""

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
    """Frames, innermost first. ``broken`` where unwinding left the code before it came to an end."""

    frames: tuple[Frame, ...]
    broken: bool


class _Module:
    """One mapped file, opened when its first address is looked up."""

    def __init__(self, process: Process, mapping: Mapping, debug_files: Path) -> None:
        self._process, self._mapping, self._debug_files = process, mapping, debug_files
        self.name = PurePosixPath(mapping.path.removesuffix(" (deleted)")).name

    @cached_property
    def _path(self) -> Path | None:
        try:
            return self._process.open_path(self._mapping)
        except LabError:
            return None

    @cached_property
    def _object(self) -> ElfObject | None:
        try:
            return read_object(self._path, self._mapping.path) if self._path else None
        except LabError:
            return None

    @cached_property
    def _symbols(self) -> list[SymCache]:
        """Most telling first: separate debug information, then the object's own."""
        build_id = self._object.build_id if self._object else ""
        separate = self._debug_files / build_id[:2] / f"{build_id[2:]}.debug"
        caches = []
        for path in (separate if build_id and separate.exists() else None, self._path):
            if path is None:
                continue
            try:
                caches.append(next(Archive.open(str(path)).iter_objects()).make_symcache())
            except (SymbolicError, StopIteration, OSError):
                continue  # no symbols to be had here: the frame keeps its module and offset
        return caches

    def frames(self, address: int) -> list[Frame]:
        """The frame at a return address, with the functions inlined there, innermost first."""
        offset = address - self._mapping.start + self._mapping.offset
        # A return address is the instruction after the call: one byte back is inside the call.
        own = self._object.address_of(offset - 1) if self._object else None
        for cache in self._symbols if own is not None else ():
            found = [
                Frame(place.symbol or "", self.name, place.full_path or "", place.line or 0, offset)
                for place in cache.lookup(own)  # type: ignore[no-untyped-call] # symbolic types the rest
            ]
            if found:
                return found
        return [Frame("", self.name, "", 0, offset)]


class Symbolizer:
    """Looks addresses up in what a process has mapped. The mappings are read anew when an address is in none of them.

    Args:
        process: whose addresses these are.
        debug_files: where separate debug information lies by build id.
    """

    def __init__(self, process: Process, debug_files: Path = DEBUG_FILES) -> None:
        self._process = process
        self._debug_files = debug_files
        self._mappings: tuple[Mapping, ...] = ()
        self._known: dict[int, list[Frame]] = {}
        self._modules: dict[tuple[int, int], _Module] = {}

    def symbolize(self, addresses: Sequence[int]) -> SymbolizedStack:
        """A stack of return addresses, innermost first.

        Unwinding by frame pointers goes astray in code that was built without them: it then takes whatever the frame
        register held for a frame. An address where no code is mapped shows that, and the stack is cut there.
        """
        frames: list[Frame] = []
        for address in addresses:
            found = self._known.get(address)
            if found is None:
                found = self._known[address] = self._lookup(address)
            if not found:
                return SymbolizedStack(tuple(frames), broken=True)
            frames += found
        return SymbolizedStack(tuple(frames), broken=not addresses)

    def _lookup(self, address: int) -> list[Frame]:
        mapping = self._find(address)
        if mapping is None:
            self._mappings = self._read_mappings()
            mapping = self._find(address)
        if mapping is None:
            return []
        if not mapping.path.startswith("/"):
            return [Frame("", mapping.path or "[anonymous]", "", 0, address - mapping.start)]
        module = self._modules.setdefault(
            (mapping.start, mapping.end), _Module(self._process, mapping, self._debug_files)
        )
        return module.frames(address)

    def _find(self, address: int) -> Mapping | None:
        return next((mapping for mapping in self._mappings if mapping.start <= address < mapping.end), None)

    def _read_mappings(self) -> tuple[Mapping, ...]:
        try:
            return tuple(mapping for mapping in self._process.maps() if mapping.executable)
        except LabError:
            return self._mappings  # it has ended: what was read before still tells
