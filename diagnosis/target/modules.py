"""What a process has mapped, as the source of names: files and generated code."""

from __future__ import annotations

import contextlib
import os
import re
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.target.debug_files import Linked
from diagnosis.target.libc import is_c_runtime
from diagnosis.target.mapping import DELETED
from diagnosis.target.objects import open_regular
from diagnosis.target.parser.answers import flag_of, object_of
from diagnosis.target.parser.client import ParserError
from diagnosis.target.parser.names import PERF_MAP, Names
from diagnosis.target.start import CODE_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diagnosis.target.debug_files import DebugFiles
    from diagnosis.target.mapping import Mapping
    from diagnosis.target.parser.client import Budget, Parser
    from diagnosis.target.parser.facts import ElfObject
    from diagnosis.target.parser.names import Place
    from diagnosis.target.process import Process

# Where distributions put the shared libraries that they make.
_SYSTEM_FOLDERS = ("/usr/lib/", "/usr/lib64/", "/lib/", "/lib64/", "/nix/store/", "/gnu/store/")


def is_packaged(path: str) -> bool:
    """True for a shared library in one of the system's folders: a distribution made it. What pip puts there is not."""
    return path.startswith(_SYSTEM_FOLDERS) and ".so" in path.rpartition("/")[2] and "/site-packages/" not in path


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


class MappedFile:
    """One mapped file. Held open: when the process has ended, nothing else leads to a file of its container.

    Args:
        process: has it mapped.
        mapping: one of its mappings.
        debug_files: separate debug information, by build id.
        parser: reads it.
        budget: of the process.
        root: a descriptor of the process's root directory; -1 for none.
        room: whether another descriptor may be held.
    """

    def __init__(
        self,
        process: Process,
        mapping: Mapping,
        debug_files: DebugFiles,
        parser: Parser,
        budget: Budget,
        *,
        root: int,
        room: bool,
    ) -> None:
        self.name, self.label = mapping.name, mapping.label
        self._path, self._root = mapping.path.removesuffix(DELETED), root
        self._debug_files, self._parser, self._budget = debug_files, parser, budget
        self._descriptor = -1
        self.names = Names(parser, budget, self._opened)
        if not room:
            self.names.lost = "too many files are mapped"
            return
        with contextlib.suppress(LabError, OSError):
            self._descriptor = open_regular(process.open_path(mapping))

    @property
    def lost(self) -> str:
        """Why names of it are missing; "" while none are."""
        return self.names.lost

    def close(self) -> None:
        """Close it. What was looked up before stays known."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @cached_property
    def object(self) -> ElfObject | None:
        """What the file is, and where its exit is; None for no ELF file."""
        if self._descriptor < 0:
            return None
        fields = {"table": ".dynsym", "names": ["exit"]}
        try:
            return object_of(self._parser.ask("facts", fields, files=[self._descriptor], budget=self._budget))
        except ParserError as error:
            if error.lost:
                self.names.lost = str(error)
            return None

    def _opened(self, stack: ExitStack) -> list[int]:
        """Most telling first: separate debug information, then the object itself."""
        found = []
        if self.object:
            linked = Linked(self._descriptor, self._path, self.object.build_id, self._root)
            with contextlib.suppress(OSError):
                separate = self._debug_files.open(self.object.build_id, lambda: linked.open(self._parser, self._budget))
                stack.callback(os.close, separate)
                found.append(separate)
        return [*found, *([self._descriptor] if self._descriptor >= 0 else [])]

    def before(self, offset: int) -> bytes:
        """The bytes that end at an offset, as many as the longest call has."""
        return self._read(_LONGEST_CALL, max(0, offset - _LONGEST_CALL))

    def _read(self, size: int, offset: int) -> bytes:
        if self._descriptor < 0:
            return b""
        try:
            return os.pread(self._descriptor, size, offset)
        except OSError:
            return b""

    def runs_main(self, offset: int) -> bool:
        """True where the code at a return address is the C library's that calls main and then exit."""
        if not is_c_runtime(self.name) or not self.object:
            return False
        own, target = self.object.address_of(offset), self.object.exports.get("exit")
        code = self._read(CODE_BYTES, offset)
        if own is None or target is None or not code:
            return False
        fields = {"exit": target.address, "machine": self.object.machine, "address": own}
        try:
            return flag_of(self._parser.ask("calls_exit", fields, code, budget=self._budget), "calls")
        except ParserError:
            return False

    def places(self, offsets: Sequence[int]) -> list[list[Place]]:
        """What is known of each return address: the functions inlined there, innermost first."""
        if self._descriptor < 0 or not self.object:
            return [[] for _ in offsets]
        # A return address is the instruction after the call: one byte back is inside the call.
        own = [self.object.address_of(offset - 1) for offset in offsets]
        # symbolic counts from the first segment.
        known = [address - self.object.base for address in own if address is not None and address >= self.object.base]
        found = dict(zip(known, self.names.lookup(known), strict=True))
        return [found.get(address - self.object.base, []) if address is not None else [] for address in own]


class GeneratedCode:
    """Code that a compiler wrote into memory, with the names of its map, where it writes one: /tmp/perf-PID.map."""

    def __init__(self, process: Process, parser: Parser, budget: Budget) -> None:
        self._process, self._parser, self._budget = process, parser, budget
        self._names: Names | None = None
        self._size = -1

    @property
    def lost(self) -> str:
        """Why the map cannot be read; "" where it can, or where there is none."""
        return self._names.lost if self._names else ""

    @property
    def has_map(self) -> bool:
        """Whether there was one when a name was last looked up."""
        return self._names is not None

    def places(self, addresses: Sequence[int]) -> list[list[Place]]:
        """The name of each return address."""
        with ExitStack() as stack:
            files = self._opened(stack)
            size = os.fstat(files[0]).st_size if files else -1
        if size < 0:
            return [[] for _ in addresses]
        if self._names is None or size > self._size:
            self._names, self._size = Names(self._parser, self._budget, self._opened, PERF_MAP), size
        return self._names.lookup([address - 1 for address in addresses])

    def _opened(self, stack: ExitStack) -> list[int]:
        try:
            descriptor = self._process.open_perf_map()
        except OSError:
            return []
        stack.callback(os.close, descriptor)
        return [descriptor]


def follows_call(code: bytes) -> bool:
    """True where the instruction that ends these bytes is a call, so that what comes next can be a return address."""
    return any(pattern.search(code) for pattern in _CALLS)
