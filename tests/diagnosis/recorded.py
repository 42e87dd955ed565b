"""A recorded /proc: the tree that `diagnosis.target.process` reads, made of the lines that a test gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnosis.target.process import Process

if TYPE_CHECKING:
    from pathlib import Path

PID = 4711
STATUS = "Name:\tcatalog\nState:\tS (sleeping)\nVmPeak:\t  900 kB\nVmRSS:\t  512 kB\nRssAnon:\t  256 kB\nThreads:\t3\n"


def record(
    proc: Path,
    *,
    maps: str | bytes = "",
    status: str = STATUS,
    cmdline: bytes = b"catalog\0--fresh\0",
    state: str = "S",
) -> Process:
    """A process with these files below ``proc``, as if it ran."""
    folder = proc / str(PID)
    (folder / "root").mkdir(parents=True)
    (folder / "map_files").mkdir()
    (folder / "status").write_text(status)
    (folder / "cmdline").write_bytes(cmdline)
    (folder / "comm").write_text("catalog\n")
    # A name may hold blanks and brackets, which is why fields are counted from the last bracket.
    (folder / "stat").write_text(f"{PID} (cat) Z (alog) {state} 1 {PID} {PID} 0 -1\n")
    (folder / "maps").write_bytes(maps if isinstance(maps, bytes) else maps.encode())
    return Process(PID, proc)


def end(proc: Path) -> None:
    """Let the recorded process end: its folder goes."""
    for path in sorted((proc / str(PID)).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    (proc / str(PID)).rmdir()
