"""The tracer's side: starts the parser, asks it, and goes on without it.

Every answer is checked before it is used: a parser that a file has taken over can answer wrongly, and nothing more.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from threading import RLock
from typing import TYPE_CHECKING, Any

from diagnosis.base.closing import Closing
from diagnosis.base.text import safe_text
from diagnosis.target.parser.confine import Limits
from diagnosis.target.parser.protocol import Message, ProtocolError, receive, send

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

DEFAULT_LIMITS = Limits()
START_SECONDS = 60.0
# How often a request's use of the processor is looked at.
LOOK_SECONDS = 0.25
# Processor time that the parser takes to start on an ordinary machine, at the most. Where it takes more, as on an
# emulated machine, requests may take as many times longer: what a target chose has no part in the start.
ORDINARY_START_SECONDS = 0.25
SLOWEST_PACE = 20.0
# Of the time for which a target is traced, the share that its files may take the parser beside `Budget.answered`: a JIT
# compiler's map is read anew for days.
ANSWERED_SHARE = 0.05
_EXITS = {3: "ran out of memory"}
# What libraries without exceptions do where there is no memory.
_SIGNALS = {signal.SIGABRT: "gave up: mostly it is for want of memory"}
_FOR_MEMORY = frozenset({_EXITS[3], _SIGNALS[signal.SIGABRT]})


def pace_of(start_seconds: float) -> float:
    """How many times longer than on an ordinary machine a request may take, by the processor time of the start."""
    return min(max(1.0, start_seconds / ORDINARY_START_SECONDS), SLOWEST_PACE)


class ParserError(Exception):
    """The parser had no answer. ``lost`` where it died of the question, or had to be ended."""

    def __init__(self, reason: str, *, lost: bool) -> None:
        super().__init__(reason)
        self.lost = lost


class _NoMemoryError(ParserError):
    """It died for want of memory, as far as that can be told."""


def _died(reason: str) -> ParserError:
    kind = _NoMemoryError if reason in _FOR_MEMORY else ParserError
    return kind(f"the parser {reason}", lost=True)


@dataclass
class Budget:
    """How often, and for how many seconds, one target may stop the parser before no more of its files are given to it.

    Raised against a target that maps a thousand files, each of which takes the parser its whole time. ``answered`` is
    against one whose files take nearly that, and a parser that a file has taken over and that answers late on purpose;
    a share of the time that goes by is given back, up to what there was at first.
    """

    deaths: int = 12
    seconds: float = 10.0
    answered: float = 120.0
    refilled: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._most = self.answered

    @property
    def spent(self) -> bool:
        """True where it is used up."""
        now = time.monotonic()
        self.answered = min(self._most, self.answered + ANSWERED_SHARE * (now - self.refilled))
        self.refilled = now
        return self.deaths <= 0 or self.seconds <= 0 or self.answered <= 0

    def charge(self, seconds: float) -> None:
        """Count one death that came after so many seconds."""
        self.deaths -= 1
        self.seconds -= seconds


class Parser(Closing):
    """The process that reads what targets chose. It starts with the first request, and again after it died.

    Requests come from any thread, one after the other.

    Args:
        limits: what it may take, on an ordinary machine.

    Attributes:
        holds: what confines it.
        pace: how many times longer its requests may take on this machine.
    """

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._lock = RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._answers = 0  # of this process
        self.holds: frozenset[str] = frozenset()
        self.pace = 1.0
        self._budget = Budget()

    def start(self) -> frozenset[str]:
        """Start it before the first request, which then does not wait for it; returns what confines it.

        Raises:
            ParserError: it does not start.
        """
        with self._lock:
            self._ready()
            return self.holds

    def ask(
        self,
        operation: str,
        fields: Mapping[str, Any] | None = None,
        payload: bytes = b"",
        files: Sequence[int] = (),
        budget: Budget | None = None,
    ) -> Message:
        """One request and its answer.

        Args:
            operation: what is to be done: see `worker`.
            fields: what else it takes.
            payload: bytes that need no encoding.
            files: descriptors of regular files.
            budget: the target's; by default one of the parser's own.

        Raises:
            ParserError: there is no answer; the text says why.
        """
        budget = budget or self._budget
        if budget.spent:
            raise ParserError("its process has stopped the parser too often, or kept it too long", lost=True)
        message = Message({"operation": operation, **(fields or {})}, payload, tuple(files))
        with self._lock:
            worn = self._answers > 0
            try:
                answer = self._charge(message, budget)
            except _NoMemoryError:
                # What earlier questions had left was in its way: a parser that starts with this one has all the room.
                if not worn or budget.spent:
                    raise
                answer = self._charge(message, budget)
            self._answers += 1
        if "error" in answer.fields:
            reason = answer.fields["error"]
            raise ParserError(safe_text(reason) if isinstance(reason, str) else "no reason", lost=False)
        return answer

    def close(self) -> None:
        """End it."""
        with self._lock:
            self._end()

    def _charge(self, message: Message, budget: Budget) -> Message:
        began = time.monotonic()
        try:
            answer = self._exchange(message)
        except ParserError:
            budget.charge((time.monotonic() - began) / self.pace)
            raise
        if budget is not self._budget:  # which is of no target, and may have to last for days
            budget.answered -= (time.monotonic() - began) / self.pace
        return answer

    def _exchange(self, message: Message) -> Message:
        connection = self._ready()
        try:
            connection.settimeout(self._limits.seconds * self.pace)
            send(connection, message)
            answer = receive(connection, next_wait=self._next_wait())
        except TimeoutError:
            self._end()
            raise _died("took too long") from None
        except (ProtocolError, OSError):
            raise _died(self._end()) from None
        except BaseException:  # an interruption: an answer that comes late would be taken for the next one's
            self._end()
            raise
        if answer is None:
            raise _died(self._end())
        return answer

    def _next_wait(self) -> Callable[[], float]:
        """How long to wait at a time. Processor time is looked at, for which nobody else's load counts."""
        began, used = time.monotonic(), self._processor_time()
        seconds, cpu_seconds = self._limits.seconds * self.pace, self._limits.cpu_seconds * self.pace

        def next_wait() -> float:
            left = seconds - (time.monotonic() - began)
            if left <= 0 or self._processor_time() - used > cpu_seconds:
                raise TimeoutError
            return min(left, LOOK_SECONDS)

        return next_wait

    def _processor_time(self) -> float:
        """Seconds that the parser has used."""
        if self._process is None:
            return 0.0
        # CPUCLOCK_SCHED of another process, as clock_getcpuclockid() computes it.
        return time.clock_gettime((~self._process.pid << 3) | 2)

    def _ready(self) -> socket.socket:
        self._launch()
        assert self._process is not None  # noqa: S101 - _launch made it
        assert self._connection is not None  # noqa: S101
        if not self.holds:
            try:
                self._connection.settimeout(START_SECONDS)
                hello = receive(self._connection)
            except (ProtocolError, OSError):
                hello = None
            if hello is None:
                raise ParserError(f"the parser did not start: it {self._end()}", lost=True)
            self.holds = frozenset(map(str, hello.fields["holds"]))
            self.pace = pace_of(self._processor_time())
        return self._connection

    def _launch(self) -> None:
        process = self._process
        if process and process.poll() is None and self._processor_time() < self._limits.life_seconds:
            return
        self._end()
        self._answers = 0
        own, other = socket.socketpair()
        with other:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-m", "diagnosis.target.parser.worker"),
                    *(str(os.getpid()), str(other.fileno()), json.dumps(asdict(self._limits))),
                ],
                env={},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(other.fileno(),),
                # Ctrl-C ends the trace, which still has names to look up.
                start_new_session=True,
            )
        self._connection = own

    def _end(self) -> str:
        """End it, whatever it is doing; returns what it had ended of by itself, where it had."""
        process, self._process = self._process, None
        connection, self._connection = self._connection, None
        self.holds = frozenset()
        if connection:
            connection.close()
        if process is None:
            return "was not there"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
        status = process.poll()
        if status is None:
            process.kill()
            process.wait()
            return "sent no answer that could be read"
        if status < 0:
            return _SIGNALS.get(signal.Signals(-status), f"died of {signal.Signals(-status).name}")
        return _EXITS.get(status, f"ended with status {status}")
