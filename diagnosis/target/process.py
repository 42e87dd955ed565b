"""What /proc says about one process: its name, its memory and what it has mapped."""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.base.files import find_beneath
from diagnosis.base.rights import rights_remedy
from diagnosis.base.text import safe_text
from diagnosis.target.mapping import DELETED, parse_mapping
from diagnosis.target.procfs import ProcessEnd, children_of, program_of, read_text, runs, stat_of, status_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from diagnosis.target.mapping import Mapping

PROC = Path("/proc")
KIB = 1024

# A command line can have 2 MiB.
MAX_COMMAND = 1_024


@dataclass(frozen=True)
class Resident:
    """Bytes of a process that are in memory: all of them, the anonymous ones (heap, stacks) and the shared ones.

    ``swapped_bytes`` are anonymous ones that were written to swap.
    """

    total_bytes: int
    anonymous_bytes: int
    shared_bytes: int = 0
    swapped_bytes: int = 0

    @property
    def held_bytes(self) -> int:
        """What the process holds and the kernel cannot drop, as it can a file's pages."""
        return self.anonymous_bytes + self.shared_bytes + self.swapped_bytes


class Process:
    """A running process. It runs for as long as one of its threads does, also when the first of them has ended.

    Args:
        pid: as this machine numbers it.
        proc: where procfs is mounted.

    Raises:
        LabError: there is no such process.
    """

    def __init__(self, pid: int, proc: Path = PROC) -> None:
        self.pid = pid
        self.proc = proc
        self._root = proc / str(pid)
        # Opened first: what is read afterwards is of this process, or of none.
        self._ending = ProcessEnd(pid) if proc == PROC and pid > 0 else None
        if pid < 1 or not (self._root / "status").exists():
            raise LabError(f"pid {pid} does not exist", "list the processes with: ps -e -o pid,args")
        if (group := status_of(self._root).get("Tgid", "")) not in ("", str(pid)):
            raise LabError(f"pid {pid} is a thread of process {group}", f"name the process: {group}")

    @cached_property
    def command(self) -> str:
        """The command line, safe to print, or the name in brackets for a kernel thread.

        Raises:
            LabError: the process has ended.
        """
        try:
            with (self._memory / "cmdline").open("rb") as stream:
                words = stream.read(MAX_COMMAND).rstrip(b"\0").split(b"\0")
        except (FileNotFoundError, ProcessLookupError) as error:
            raise _ended(self.pid) from error
        text = safe_text(b" ".join(words).strip(), MAX_COMMAND)
        return text or f"[{safe_text(read_text(self._memory / 'comm').strip())}]"

    def program(self) -> tuple[str, ...]:
        """What identifies the program in this process, and changes with an exec: where its code and stack begin.

        Empty when the process has ended, or has given up its memory on the way to its end.
        """
        return program_of(self._memory) if self.alive() else ()

    def started(self) -> float:
        """When it started, in seconds of CLOCK_BOOTTIME, to a hundredth.

        Raises:
            LabError: it has ended.
        """
        fields = stat_of(self._root)
        if not fields:
            raise _ended(self.pid)
        return int(fields[19]) / os.sysconf("SC_CLK_TCK")

    @property
    def thread(self) -> int:
        """A thread that the kernel knows the process's memory by: the first one, whose id is the pid, while it runs."""
        return int(self._memory.name)

    @property
    def _memory(self) -> Path:
        """The folder below /proc that knows the process's memory: its own, or a living thread's."""
        if runs(self._root):
            return self._root
        threads = sorted((self._root / "task").glob("[0-9]*"), key=lambda thread: int(thread.name))
        living = next((thread.name for thread in threads if runs(thread)), "")
        # Not task/TID, which has no map_files: each thread has a folder that lists of /proc leave out.
        return self.proc / living if living else self._root

    def children(self) -> tuple[int, ...]:
        """The processes that this one started and that still run."""
        return children_of(self._root)

    def parent(self) -> int:
        """The process that started this one, or that it was given to; 0 where there is none, or this one has ended."""
        fields = stat_of(self._root)
        return int(fields[1]) if fields else 0

    def members(self) -> tuple[int, ...]:
        """Itself: what is measured as one process, where a group has several."""
        return (self.pid,)

    def descendants(self) -> tuple[int, ...]:
        """The processes that this one started, the ones that they started, and so on."""
        found: dict[int, None] = dict.fromkeys(self.children())
        queue = list(found)
        while queue:
            started = children_of(self.proc / str(queue.pop()))
            queue += [pid for pid in started if pid not in found]
            found.update(dict.fromkeys(started))
        return tuple(sorted(found))

    def alive(self) -> bool:
        """True while the process runs. A zombie's memory is gone already."""
        if self._ending and self._ending.known:
            return not self._ending.came()
        return runs(self._memory)

    def resident(self) -> Resident:
        """Resident memory now.

        Raises:
            LabError: the process has ended.
        """
        status = status_of(self._memory) if self.alive() else {}
        sizes = {key: int(status[key].split()[0]) * KIB for key in _SIZES if key in status}
        if not sizes.keys() >= _RSS:
            raise _ended(self.pid)
        return Resident(sizes["VmRSS"], sizes["RssAnon"], sizes.get("RssShmem", 0), sizes.get("VmSwap", 0))

    def maps(self) -> tuple[Mapping, ...]:
        """Every mapping, by rising address.

        Raises:
            LabError: the process has ended or belongs to another user.
        """
        return self._maps(lambda _: True)

    def code_maps(self) -> tuple[Mapping, ...]:
        """The executable ones: of 100,000 mappings there are few.

        Raises:
            LabError: the process has ended or belongs to somebody else.
        """
        return self._maps(lambda line: line[line.index(" ") + 3] == "x")

    def mapped_code(self) -> frozenset[tuple[str, int]]:
        """The files that are mapped to be run, by device and inode: costs a tenth of reading all that `maps` says.

        Raises:
            LabError: the process has ended or belongs to another user.
        """
        found = _MAPPED_CODE.findall(self._maps_text())
        return frozenset((device.decode(), int(inode)) for device, inode in found)

    def _maps(self, wanted: Callable[[str], bool]) -> tuple[Mapping, ...]:
        # Not by splitlines: a path can hold the other characters that it takes for the end of a line.
        lines = (os.fsdecode(line.removesuffix(b"\n")) for line in io.BytesIO(self._maps_text()))
        return tuple(parse_mapping(line) for line in lines if line and wanted(line))

    def _maps_text(self) -> bytes:
        try:
            maps = (self._memory / "maps").read_bytes()
        except PermissionError as error:
            raise LabError(f"the mappings of pid {self.pid} cannot be read", rights_remedy(error)) from error
        except (FileNotFoundError, ProcessLookupError) as error:
            raise _ended(self.pid) from error
        if not self.alive():  # afterwards: what was read before is then the process's own
            raise _ended(self.pid)
        return maps

    def open_memory(self) -> int:
        """A descriptor to read the process's memory by: offsets are addresses.

        Raises:
            LabError: the process has ended or belongs to another user.
        """
        try:
            return os.open(self._memory / "mem", os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError as error:
            raise LabError(f"the memory of pid {self.pid} cannot be read", rights_remedy(error)) from error
        except OSError as error:
            raise _ended(self.pid) from error

    def thread_ids(self) -> frozenset[int]:
        """The ids of its threads as they know them themselves: in a container others than here."""
        found = (read_text(task / "status") for task in (self._root / "task").glob("[0-9]*"))
        lines = (line for text in found for line in text.split("\n") if line.startswith("NSpid:"))
        return frozenset(int(line.split()[-1]) for line in lines)

    def auxiliary(self, kind: int) -> int:
        """One value of the auxiliary vector (getauxval(3)) that the kernel gave the program; 0 where it has none."""
        data = (self._memory / "auxv").read_bytes()
        pairs = struct.iter_unpack("=QQ", data[: len(data) - len(data) % 16])
        return next((value for key, value in pairs if key == kind), 0)

    def open_path(self, mapping: Mapping) -> Path:
        """A path that opens the mapped file itself: also in a container, and after it was replaced on disk.

        The link below map_files names the file that is mapped. Where this user may not follow it, the file is looked
        up by its name below the process's own root directory, and has to be the same file still.

        Raises:
            LabError: neither way leads to the mapped file.
        """
        memory = self._memory
        link = memory / "map_files" / f"{mapping.start:x}-{mapping.end:x}"
        if os.access(link, os.R_OK):
            return link
        path = memory / "root" / mapping.path.removesuffix(DELETED).lstrip("/")
        try:
            same = path.stat().st_ino == mapping.inode
        except OSError as error:
            what = f"{mapping.label} of pid {self.pid} cannot be read: {error.strerror}"
            raise LabError(what, rights_remedy(error, _RESTART)) from error
        if not same:
            raise LabError(
                f"{mapping.label} was replaced while pid {self.pid} has it mapped", rights_remedy(OSError(), _RESTART)
            )
        if not os.access(path, os.R_OK):
            raise LabError(
                f"{mapping.label} of pid {self.pid} cannot be read", rights_remedy(PermissionError(), _RESTART)
            )
        return path

    def open_root(self) -> int:
        """A descriptor of its root directory, to look files up in.

        Raises:
            OSError: it has ended, or belongs to another user.
        """
        return os.open(self._memory / "root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def open_perf_map(self) -> int:
        """A descriptor of the map that a JIT compiler of this process writes, in the process's own /tmp.

        Raises:
            OSError: there is none, or it is not the process's own file: anybody can write to /tmp.
        """
        own = next(
            line.split()[-1] for line in read_text(self._memory / "status").split("\n") if line.startswith("NSpid:")
        )
        descriptors = [self.open_root()]
        try:
            found = find_beneath(descriptors[0], f"tmp/perf-{own}.map")
            descriptors.append(found)
            status = os.fstat(found)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != self._root.stat().st_uid:
                raise OSError(errno.EPERM, "the map is not the process's own file")
            return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def _ended(pid: int) -> LabError:
    return LabError(f"pid {pid} has ended", "start it again, and trace it while it runs")


_MAPPED_CODE = re.compile(rb"^[0-9a-f]+-[0-9a-f]+ ..x. [0-9a-f]+ (\S+) ([1-9][0-9]*)", re.MULTILINE)
_RSS = {"VmRSS", "RssAnon"}
_SIZES = _RSS | {"RssShmem", "VmSwap"}
_RESTART = "restart the process"
