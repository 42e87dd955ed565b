"""The programs that the tracers are measured on, and what one run of them says."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from diagnosis.base.errors import LabError

if TYPE_CHECKING:
    from types import TracebackType

PROGRAMS = Path(__file__).with_name("programs")
SECONDS = 1.5
KIB = 1024
MIB = 1024 * KIB

# Debian's own Python, whose sqlite3 is Debian's too; another one where there is none.
SYSTEM_PYTHON = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable


@dataclass(frozen=True)
class Load:
    """One program and its arguments.

    Attributes:
        name: as the table has it.
        command: what is run; ``{loop}``, ``{statements}`` and ``{nodes}`` are the compiled programs.
        preload: a library of `PROGRAMS` to preload; "" for none.
        unit: of the figure that the program prints.
        keeper: its function that keeps memory; "" where it has none of its own.
        worker: its function that takes all the rest, and gives it back; "" likewise.
        packaged: it takes memory by software that a distribution has built without frame pointers, and is built so.
    """

    name: str
    command: tuple[str, ...]
    preload: str = ""
    unit: str = "ns a pair"
    keeper: str = "keep_block"
    worker: str = "take"
    packaged: bool = False

    @property
    def own(self) -> tuple[str, ...]:
        """Its functions that take memory: one of them is in every right stack."""
        return tuple(filter(None, (self.keeper, self.worker)))


def _loop(size: int, threads: int) -> tuple[str, ...]:
    return "{loop}", str(size), str(threads), str(SECONDS)


SMALL = Load("64 B, 1 thread", _loop(64, 1))
PACKAGED_SQLITE = Load(
    "packaged SQLite",
    ("{statements}", "libsqlite3.so.0"),
    unit="s",
    keeper="keep_statement",
    worker="work",
    packaged=True,
)
LOADS = (
    SMALL,
    Load("64 B, 8 threads", _loop(64, 8)),
    Load("64 KiB, 1 thread", _loop(64 * KIB, 1)),
    Load("64 KiB, 8 threads", _loop(64 * KIB, 8)),
    Load("1 MiB, 1 thread", _loop(MIB, 1)),
    Load("1 MiB, 8 threads", _loop(MIB, 8)),
    Load("endbr64, 64 B, 1 thread", _loop(64, 1), preload="endbr64"),
    Load(
        "SQLite in Debian's Python",
        (SYSTEM_PYTHON, str(PROGRAMS / "database.py")),
        unit="s",
        keeper="",
        worker="",
    ),
    PACKAGED_SQLITE,
    Load(
        "packaged Python",
        (SYSTEM_PYTHON, str(PROGRAMS / "texts.py")),
        unit="s",
        keeper="keep_text",
        worker="work",
        packaged=True,
    ),
    Load("C++ without frame pointers", ("{nodes}",), unit="s", keeper="keep_node", worker="work", packaged=True),
)


def compile_programs(folder: Path) -> None:
    """Compile the loop, the allocator that begins with endbr64, and the programs without frame pointers.

    Raises:
        subprocess.CalledProcessError: the compiler said why.
    """
    flags = ["-O2", "-g", "-fno-omit-frame-pointer", "-mno-omit-leaf-frame-pointer", "-pthread"]
    flags.append("-fno-ipa-icf")  # two functions of the same code stay two
    subprocess.run(["cc", *flags, "-o", folder / "loop", PROGRAMS / "loop.c"], check=True)
    subprocess.run(
        [
            "cc",
            *flags,
            "-fcf-protection=branch",
            "-shared",
            "-fPIC",
            "-o",
            folder / "endbr64.so",
            PROGRAMS / "endbr64.c",
        ],
        check=True,
    )
    packaged = ["-O2", "-g", "-fomit-frame-pointer"]
    subprocess.run(["cc", *packaged, "-o", folder / "statements", PROGRAMS / "statements.c"], check=True)
    subprocess.run(["c++", *packaged, "-o", folder / "nodes", PROGRAMS / "nodes.cpp"], check=True)


class Running:
    """A load that has started and waits to be let go. Use it as a context manager.

    Args:
        load: which.
        folder: with the compiled programs.
        wrapper: a tool that runs its target itself, before the command.
        command: what is run instead of the load's own.
    """

    def __init__(self, load: Load, folder: Path, wrapper: tuple[str, ...] = (), command: tuple[str, ...] = ()) -> None:
        environment = dict(os.environ)
        if load.preload:
            environment["LD_PRELOAD"] = str(folder / f"{load.preload}.so")
        programs = {name: folder / name for name in ("loop", "statements", "nodes")}
        words = [word.format(**programs) for word in command or load.command]
        self._process = subprocess.Popen(
            [*wrapper, *words], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        while self._line() != "ready":
            pass  # a wrapper has its own to say first

    @property
    def pid(self) -> int:
        """The load's process, where it has no wrapper."""
        return self._process.pid

    def go(self) -> tuple[float, int]:
        """Let it work; returns its figure, and the bytes that it has kept. It goes on living."""
        self._tell()
        figure, kept = self._line().split()
        return float(figure), int(kept)

    def end(self) -> str:
        """Let it end; returns what it, or its wrapper, still had to say."""
        output, _ = self._process.communicate("\n", timeout=60)
        return output

    def _tell(self) -> None:
        if self._process.stdin:
            self._process.stdin.write("\n")
            self._process.stdin.flush()

    def _line(self) -> str:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise LabError(f"the load ended with status {self._process.wait()}")
        return line.strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
