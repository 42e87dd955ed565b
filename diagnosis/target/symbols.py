"""From addresses to functions, files and lines."""

from __future__ import annotations

import bisect
import contextlib
import os
from collections import defaultdict
from dataclasses import replace
from threading import RLock
from typing import TYPE_CHECKING

from heap_trace import Ending

from diagnosis.base.closing import Closing
from diagnosis.base.text import safe_text
from diagnosis.target.debug_files import DebugFiles
from diagnosis.target.mapped_code import MappedCode
from diagnosis.target.modules import GeneratedCode, MappedFile, follows_call, is_packaged
from diagnosis.target.objects import shared_parser
from diagnosis.target.parser.client import Budget
from diagnosis.target.parser.names import Demangler
from diagnosis.target.python import is_interpreter
from diagnosis.target.python_stack import merge, runs_python
from diagnosis.target.runtimes import unnamed_code
from diagnosis.target.stack import Frame, SymbolizedStack
from diagnosis.target.start import START_FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from heap_trace.page_faults import FaultStack

    from diagnosis.target.mapping import Mapping
    from diagnosis.target.parser.client import Parser
    from diagnosis.target.parser.names import Place
    from diagnosis.target.process import Process
    from diagnosis.target.python_code import PythonStack

__all__ = ["Frame", "SymbolizedStack", "Symbolizer"]

# What a mapping without a name is called.
ANONYMOUS = "[anonymous]"

# Held open at a time: a process's limit is often 1,024. Programs have some dozens, the largest some hundreds.
MAX_FILES = 512
MAX_PATH = 4_096


class Symbolizer(Closing):
    """Looks addresses up in what a process has mapped. Use it as a context manager: it holds the mapped files open.

    It can be used from any thread.

    Args:
        process: whose addresses these are.
        debug_files: separate debug information by build id; by default what is installed, or debuginfod's.
        parser: reads the files; by default the one that the whole command shares.
    """

    def __init__(
        self, process: Process, debug_files: DebugFiles | None = None, *, parser: Parser | None = None
    ) -> None:
        self._process = process
        self._debug_files = debug_files or DebugFiles()
        self._parser = parser or shared_parser()
        self._budget = Budget()
        self._root = -1
        with contextlib.suppress(OSError):  # what it has mapped is named all the same
            self._root = process.open_root()
        self._lock = RLock()
        self._known: dict[int, list[Frame]] = {}
        self._starting: dict[int, bool] = {}
        self._code = MappedCode(process)
        self._files: dict[tuple[str, int], MappedFile] = {}
        self._generated = GeneratedCode(process, self._parser, self._budget)
        self._demangler = Demangler(self._parser, self._budget)
        # Addresses of generated code without a name: its compiler may write one yet.
        self._unnamed: set[int] = set()
        # Stacks whose Python functions were found, but not where they belong; and those whose were not found.
        self._misfits: set[tuple[int, ...]] = set()
        self._unread: set[tuple[int, ...]] = set()

    def refresh(self) -> None:
        """Read what is mapped now. Files that were mapped before stay known: their addresses are in earlier stacks."""
        with self._lock:
            for address in self._unnamed:
                self._known.pop(address, None)
            self._unnamed.clear()
            new = self._code.refresh()
            if not new:
                return
            if len(self._files) + len({mapping.file for mapping in new}) > MAX_FILES:
                self._close_unmapped()
            for mapping in new:
                self._file(mapping)
            # What was there before has other code now.
            starts = [mapping.start for mapping in new]
            for known in (self._known, self._starting):
                for address in list(known):
                    at = bisect.bisect_right(starts, address) - 1
                    if at >= 0 and address < new[at].end:
                        del known[address]

    def close(self) -> None:
        """Close the mapped files."""
        with self._lock:
            for file in self._files.values():
                file.close()
            if self._root >= 0:
                os.close(self._root)
                self._root = -1

    def lost_names(self) -> dict[str, str]:
        """The files whose names are missing, or their lines, and why."""
        with self._lock:
            found = {file.label: file.lost for file in self._files.values() if file.lost}
            if self._generated.lost:
                found["the perf map"] = self._generated.lost
            elif self._unnamed and (unnamed := self._unnamed_code()):
                found[unnamed[0]] = unnamed[1]
            if self._misfits:
                found["Python"] = f"in {len(self._misfits)} stacks its functions did not match the native frames"
            elif self._unread:  # as rare: the threads came and went faster than one of them could be found
                found["Python"] = f"in {len(self._unread)} stacks its functions could not be read"
            return found

    def _unnamed_code(self) -> tuple[str, str] | None:
        files = (mapping.name for mapping in self._code.current if mapping.path.startswith("/"))
        return unnamed_code(files, self._process.pid, has_map=self._generated.has_map)

    def symbolize(
        self, addresses: Sequence[int], ending: Ending = Ending.UNKNOWN, python: PythonStack | None = None
    ) -> SymbolizedStack:
        """A stack of return addresses, innermost first, that ended so, and with these Python functions.

        Unwinding by frame pointers is wrong in code that was built without them: it then takes whatever the frame
        register held for a frame. An address where no code is mapped shows that, and the stack is cut there: it is
        broken, unless it had come to its end before.
        """
        with self._lock:
            self._look_up(addresses)
            frames: list[Frame] = []
            broken = not addresses
            for i, address in enumerate(addresses):
                found = self._known[address]
                if not found:
                    broken = not (frames and self._starts(addresses[i - 1], frames[-1]))
                    break
                frames += found
            # What calls main is the start of the program, for which musl has no tables.
            if ending is Ending.NO_TABLE and any(frame.function == "main" for frame in frames[-2:]):
                ending = Ending.START
            others = tuple(dict.fromkeys(name for address in addresses for name in self._code.others(address)))
            stack = SymbolizedStack(tuple(frames), broken=broken, depth=len(addresses), ending=ending, others=others)
            return self._with_python(stack, python, tuple(addresses)) if python else stack

    def _with_python(self, stack: SymbolizedStack, python: PythonStack, addresses: tuple[int, ...]) -> SymbolizedStack:
        if not python.frames:
            if not python.whole or any(map(runs_python, stack.frames)):
                self._unread.add(addresses)
            return stack
        merged = merge(stack, python)
        if merged is None:
            self._misfits.add(addresses)
            return stack
        return replace(stack, frames=merged)

    def locate(self, addresses: Sequence[int]) -> tuple[tuple[str, tuple[str, int], int], ...] | None:
        """Each address as the file that it lies in (its path, device and inode) and the offset there.

        None where one of them lies in no file. Stacks of two processes that are located alike have the same names.
        """
        with self._lock:
            found = [(self._code.find(address), address) for address in addresses]
            return (
                tuple((each.path, each.file, _offset(each, address)) for each, address in found if each)
                if all(each and each.path.startswith("/") for each, _ in found)
                else None
            )

    def symbolize_fault(self, stack: FaultStack) -> SymbolizedStack:
        """The stack of a page fault: its first frame is the faulting instruction itself, not a return address.

        memset and its like have no frame of their own, and frame pointers lead past the function that called them.
        Its return address then is the word at the stack pointer. It is taken for that where it follows a call, in the
        object that the frame after it is in, and the faulting instruction is in another.
        """
        first, *rest = stack.frames
        addresses = [first + 1, *rest]
        with self._lock:
            self._look_up(addresses)
            if stack.ending is not Ending.UNKNOWN:
                return self.symbolize(addresses, stack.ending)
            leaf, caller = self._code.find(first), self._code.find(rest[0]) if rest else None
            if leaf and caller and leaf.name != caller.name and stack.top != rest[0]:
                top = self._code.find(stack.top)
                file = self._file(top) if top else None
                if top and file and top.name == caller.name and follows_call(file.before(_offset(top, stack.top))):
                    addresses.insert(1, stack.top)
            return self.symbolize(addresses)

    def _starts(self, address: int, frame: Frame) -> bool:
        """True where a return address is in the code that starts a thread."""
        found = self._starting.get(address)
        if found is None:
            found = frame.function in START_FUNCTIONS and frame.function != "main"
            mapping = self._code.find(address)
            file = self._file(mapping) if mapping and not found else None
            if mapping and file:
                found = file.runs_main(_offset(mapping, address))
            self._starting[address] = found
        return found

    def _look_up(self, addresses: Sequence[int]) -> None:
        """Put what is known of each address into `_known`; nothing for one where no code is mapped."""
        unknown = [address for address in dict.fromkeys(addresses) if address not in self._known]
        if any(self._code.find(address) is None for address in unknown) and self._code.may_refresh:
            self.refresh()
        files: defaultdict[MappedFile, list[tuple[Mapping, int]]] = defaultdict(list)
        generated: list[tuple[Mapping, int]] = []
        for address in unknown:
            mapping = self._code.find(address)
            if mapping is None:
                self._known[address] = []
            elif (file := self._file(mapping)) is not None and file.object:
                files[file].append((mapping, address))
            else:
                generated.append((mapping, address))
        for file, members in files.items():
            offsets = [_offset(mapping, address) for mapping, address in members]
            places = file.places(offsets)
            for (mapping, address), offset, found in zip(members, offsets, self._named(places), strict=True):
                part, packaged = is_interpreter(mapping.path), is_packaged(mapping.path)
                self._known[address] = [
                    replace(frame, module=file.name, offset=offset, interpreter=part, packaged=packaged)
                    for frame in found
                ]
        if generated:
            places = self._generated.places([address for _, address in generated])
            for (mapping, address), found in zip(generated, self._named(places), strict=True):
                module = mapping.name or ANONYMOUS
                offset = _offset(mapping, address) if mapping.path.startswith("/") else address - mapping.start
                self._known[address] = [replace(frame, module=module, offset=offset) for frame in found]
                if not found[0].function:
                    self._unnamed.add(address)

    def _named(self, places: list[list[Place]]) -> Iterator[list[Frame]]:
        """Frames that have no module yet: one without a name where nothing is known."""
        names = self._demangler.demangle({symbol for found in places for symbol, _, _ in found})
        for found in places:
            frames = [
                Frame(safe_text(names[symbol]), "", safe_text(path, MAX_PATH), line, 0) for symbol, path, line in found
            ]
            yield frames or [Frame("", "", "", 0, 0)]

    def _file(self, mapping: Mapping) -> MappedFile | None:
        """The mapped file; None for generated code and the vdso."""
        if not mapping.path.startswith("/"):
            return None
        file = self._files.get(mapping.file)
        if file is None:
            room = len(self._files) < MAX_FILES
            file = MappedFile(
                self._process,
                mapping,
                self._debug_files,
                self._parser,
                self._budget,
                root=self._root,
                room=room,
            )
            self._files[mapping.file] = file
        return file

    def _close_unmapped(self) -> None:
        """Close the files that nothing has mapped any more. What was looked up in them stays known."""
        for key in self._files.keys() - {mapping.file for mapping in self._code.current}:
            self._files.pop(key).close()


def _offset(mapping: Mapping, address: int) -> int:
    """Where in the file an address lies."""
    return address - mapping.start + mapping.offset
