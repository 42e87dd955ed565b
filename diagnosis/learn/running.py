"""The processes of a scenario: started unprivileged, their ledgers read, ended with what started them."""

from __future__ import annotations

import os
import struct
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Self

from diagnosis.base.errors import LabError
from diagnosis.lab.child import PROJECT, START_SECONDS, STOP_SECONDS
from diagnosis.lab.ledger import IdleInterval, Reading
from diagnosis.lab.unprivileged import choose_user, command_as

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from diagnosis.lab.unprivileged import User

READ_SECONDS = 5.0
POLL_SECONDS = 0.005

# The file that a program maps, as scenarios/service.c declares it: a header, then a ring of idle intervals.
_HEADER = struct.Struct("<8Q")
_SEQUENCE = struct.Struct("<Q")
_INTERVAL = struct.Struct("<4Q")
_INTERVALS = 64
LEDGER_BYTES = _HEADER.size + _INTERVALS * _INTERVAL.size


@dataclass(frozen=True)
class Ledger:
    """What a program counted itself.

    Attributes:
        held: bytes that it holds now, also those that it leaked.
        leaked: bytes that it will never give back.
        blocks: in so many blocks, mappings or stacks.
        rounds: rounds of work that are done.
        settled: whether it has come to its everyday state: a cache is full.
        idle_intervals: times without a change, oldest first, with the counts of ``leaked`` and ``blocks``.
    """

    held: int
    leaked: int
    blocks: int
    rounds: int
    settled: bool
    idle_intervals: tuple[IdleInterval, ...]


class LedgerFile:
    """A ledger that a program maps and writes.

    Args:
        path: where to make it.
        owner: the user that the program runs as.
        selected: whether this program, of several that are the same, is the one that leaks.
    """

    def __init__(self, path: Path, owner: User, *, selected: bool) -> None:
        self.path = path
        path.unlink(missing_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.write(self._file, _HEADER.pack(0, selected, 0, 0, 0, 0, 0, 0).ljust(LEDGER_BYTES, b"\0"))
        if os.geteuid() == 0:
            os.fchown(self._file, owner.uid, owner.gid)

    def read(self) -> Ledger | None:
        """What is in it at one moment between two rounds; None in the midst of one, and before the first."""
        now = time.monotonic_ns()
        before = os.pread(self._file, _SEQUENCE.size, 0)
        content = os.pread(self._file, LEDGER_BYTES, 0)
        if before != os.pread(self._file, _SEQUENCE.size, 0):
            return None
        sequence, _, held, leaked, blocks, rounds, settled, count = _HEADER.unpack_from(content)
        if sequence % 2 or not count:
            return None
        intervals = []
        for number in range(max(0, count - _INTERVALS), count):
            at = _HEADER.size + number % _INTERVALS * _INTERVAL.size
            since, until, leaked_then, blocks_then = _INTERVAL.unpack_from(content, at)
            intervals.append(IdleInterval(since, until or now, blocks_then, leaked_then))
        return Ledger(held, leaked, blocks, rounds, bool(settled), tuple(intervals))

    def close(self) -> None:
        """Close it; the file stays."""
        os.close(self._file)


class Running:
    """The processes of one scenario. Use it as a context manager.

    They end with the thread that starts them, however that ends.

    Args:
        command: the program, without its arguments.
        folder: the folder that holds it, and the ledgers.
        speed: times its own pace, above 0.
        count: how many processes of it.
        selected: the number of the one that leaks, from 0.

    Attributes:
        pids: all of them, in the order in which they were started.
        pid: the one that the ledger is of; with several, the one that leaks.

    Raises:
        LabError: one of them ended, or did nothing in time; the text holds what it wrote to standard error.
    """

    def __init__(self, command: Sequence[str], folder: Path, speed: float, count: int = 1, selected: int = 0) -> None:
        if speed <= 0:
            raise LabError(f"the speed {speed:g} is not above 0", "1 is a scenario's own pace")
        user = choose_user(os.environ, os.geteuid())
        folder.chmod(0o755)  # another user's program runs in it; the folders above it may stay closed
        self.folder, self.speed = folder, speed
        self._began = time.monotonic()
        self._selected = selected
        self._errors: list[IO[bytes]] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ledgers: list[LedgerFile] = []
        with ExitStack() as stack:
            stack.callback(self.stop)
            for number in range(count):
                ledger = LedgerFile(folder / f"state-{number}", user, selected=number == selected)
                self._ledgers.append(ledger)
                self._start([*command, f"{speed:g}", str(ledger.path)], user)
            for number in range(count):
                self._wait(number, lambda ledger: ledger.rounds > 0, START_SECONDS, "did not begin its work")
            stack.pop_all()
        self.pids = tuple(process.pid for process in self._processes)
        self.pid = self.pids[selected]

    def _start(self, command: Sequence[str], user: User) -> None:
        errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._errors.append(errors)
        self._processes.append(
            subprocess.Popen(
                command_as(user, self.folder, command),
                # PYTHONPATH: for the launcher, which finds this project by name, whatever lies in the folder.
                env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONPATH": str(PROJECT)},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,  # Ctrl-C in the terminal is not for it
            )
        )

    def ledger(self) -> Ledger:
        """What the process `pid` has counted by now.

        Raises:
            LabError: it has ended, or writes nothing.
        """
        return self._wait(self._selected, lambda _: True, READ_SECONDS, "did not end a round of work")

    def reading(self) -> Reading:
        """The same in the form of the lab's own ledger, for an `Alignment` with a trace: inserts are leaked blocks."""
        ledger = self.ledger()
        return Reading(
            inserts=ledger.blocks,
            insert_failures=0,
            insert_bytes=ledger.leaked,
            entries_live=ledger.blocks,
            bytes_live=ledger.held,
            refreshes=ledger.rounds,
            elapsed_seconds=(time.monotonic() - self._began) * self.speed,
            phase="",
            speed=self.speed,
            chunk_bytes=0,
            cap_bytes=0,
            idle_intervals=ledger.idle_intervals,
        )

    def settle(self, seconds: float = START_SECONDS) -> None:
        """Wait until the program has come to its everyday state: from then on a trace's answer is the scenario's.

        Raises:
            LabError: it has not after ``seconds``.
        """
        for number in range(len(self._processes)):
            self._wait(number, lambda ledger: ledger.settled, seconds, "did not come to its everyday state")

    def _wait(self, number: int, done: Callable[[Ledger], bool], seconds: float, failure: str) -> Ledger:
        deadline = time.monotonic() + seconds
        while True:
            ledger = self._ledgers[number].read()
            if ledger and done(ledger):
                return ledger
            process = self._processes[number]
            if process.poll() is not None:
                raise LabError(f"the service, pid {process.pid}, ended: {process.returncode}", self._printed(number))
            if time.monotonic() > deadline:
                raise LabError(f"the service, pid {process.pid}, {failure} in {seconds:g} s", self._printed(number))
            time.sleep(POLL_SECONDS)

    def _printed(self, number: int) -> str:
        errors = self._errors[number]
        errors.seek(0)
        return errors.read().decode(errors="replace").strip() or "it printed nothing"

    def stop(self) -> None:
        """End the processes. Doing it twice is no error."""
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        for process in self._processes:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for errors in self._errors:
            errors.close()
        for ledger in self._ledgers:
            ledger.close()
        self._processes, self._errors, self._ledgers = [], [], []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
