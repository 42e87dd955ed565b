"""Run programs from stop to stop under the tracer, and read what it counted for each function."""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

import pytest
from heap_trace import HeapTrace

from diagnosis.report.report import build_report
from diagnosis.report.verdict import SAMPLES_PER_WINDOW
from diagnosis.target.debug_files import DebugFiles
from diagnosis.target.process import Process
from diagnosis.target.symbols import Symbolizer
from diagnosis.trace.counts import Counts
from diagnosis.trace.tracer import Tracer, Tracing
from diagnosis.trace.window import measure
from tests.support.waiting import LIMIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from types import TracebackType

    from diagnosis.report.report import Report
    from diagnosis.target.symbols import SymbolizedStack

PROGRAMS = Path(__file__).parent / "programs"
FLAGS = (
    "-std=gnu17", "-D_GNU_SOURCE", "-O2",
    "-fno-builtin", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls",
)  # fmt: skip
CXX_FLAGS = ("-std=gnu++17", *FLAGS[1:])

RUST_FLAGS = ("--edition", "2021", "-O")

PACKAGES = {"gcc": "gcc", "g++": "g++", "musl-gcc": "musl-tools", "rustc": "rustc"}

STOP_SECONDS = LIMIT_SECONDS

# The system's libraries keep to their exported names: to read all their debug information takes a second.
NO_DEBUG_FILES = DebugFiles(PROGRAMS / "none", environ={})
UNKNOWN = "[unknown]"


class Row(NamedTuple):
    """What one function of a program did: calls that gave memory, blocks given back, and bytes still held."""

    allocations: int
    frees: int
    outstanding: int


def compile_program(folder: Path, source: str, *flags: str, compiler: str = "", name: str = "") -> Path:
    """Compile one of the programs into a folder."""
    kind = Path(source).suffix
    output = folder / (name or Path(source).stem)
    compiler = compiler or {".cpp": "g++", ".rs": "rustc"}.get(kind, "gcc")
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed: apt-get install {PACKAGES[compiler]}")
    base = {".cpp": (*CXX_FLAGS, "-pthread"), ".rs": RUST_FLAGS}.get(kind, (*FLAGS, "-pthread"))
    command = [compiler, *base, "-o", str(output), str(PROGRAMS / source), *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CompilationError(f"{' '.join(command)}:\n{done.stderr}")
    return output


class CompilationError(Exception):
    """A program does not compile here."""


class Target:
    """A program that writes one line at each stop and waits there for a byte. It is at its first stop when made.

    Args:
        command: the program and its arguments.
        environment: variables added to this process's own.
        inside: the command starts the program as its child (`unshare --fork`): which is the traced one.
    """

    def __init__(
        self, command: Sequence[str | Path], environment: Mapping[str, str] | None = None, *, inside: bool = False
    ) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by end()
        self._process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | dict(environment or {}),
            bufsize=0,
        )
        self._selector = selectors.DefaultSelector()
        assert self._process.stdout
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        self._unread = b""
        try:
            self.line = self.reached()
        except BaseException:
            self.end()
            raise
        own = self._process.pid
        self.pid = int(Path(f"/proc/{own}/task/{own}/children").read_text().split()[0]) if inside else own

    def start(self) -> None:
        """Let it go on."""
        assert self._process.stdin
        self._process.stdin.write(b"\n")

    def reached(self, meanwhile: Callable[[], object] | None = None) -> str:
        """The line of the next stop; called in between: `meanwhile`, ten times a second."""
        assert self._process.stdout
        waited = 0.0
        while b"\n" not in self._unread:
            step = 0.1 if meanwhile else STOP_SECONDS
            if not self._selector.select(step):
                waited += step
                assert waited < STOP_SECONDS, f"not at its next stop within {waited:g} s: {self._said()}"
                if meanwhile:
                    meanwhile()
                continue
            read = os.read(self._process.stdout.fileno(), 1 << 20)
            assert read, f"it ended with status {self._process.wait()} before its next stop: {self._said()}"
            self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def go(self) -> str:
        """Let it go on to its next stop."""
        self.start()
        self.line = self.reached()
        return self.line

    def run_out(self) -> None:
        """Let it go on to its end, and leave it to be reaped later."""
        self.start()
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def end(self) -> None:
        """Kill it, with what it started inside another namespace."""
        if self._process.poll() is None:
            with contextlib.suppress(AttributeError, ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream:
                stream.close()
        self._selector.close()

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read().strip() or "nothing on standard error"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


Closable = TypeVar("Closable", Tracer, HeapTrace)


class Closing:
    """Closes tracers in the background: the kernel takes 0.1 s for each probe of its older kind, doing nothing."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=16)
        self._closed: list[Future[None]] = []

    @contextlib.contextmanager
    def tracing(self, target: Target, **options: Any) -> Iterator[Tracer]:  # noqa: ANN401 - Tracing's own
        """A tracer of a target, with its probes attached."""
        with self.later(Tracer(Process(target.pid), Tracing(**options))) as tracer:
            yield tracer

    @contextlib.contextmanager
    def later(self, tracer: Closable) -> Iterator[Closable]:
        """Close it after use, without waiting for that."""
        try:
            yield tracer
        finally:
            self._closed.append(self._pool.submit(tracer.close))

    def wait(self) -> None:
        """Until every probe is out."""
        self._pool.shutdown()
        for closed in self._closed:
            closed.result()


@dataclass(frozen=True)
class Counted:
    """What the tracer counted for one process: each stack with its counts, and every kind of loss that is not 0."""

    module: str
    stacks: tuple[tuple[SymbolizedStack, Counts], ...]
    lost: dict[str, int]

    @property
    def table(self) -> dict[str, Row]:
        """By the function that called the allocator; by module where that is not the program's own."""
        return self.by(self.caller)

    @property
    def own(self) -> dict[str, Row]:
        """The rows of the program's own functions: for one whose libraries allocate as well."""
        return self.by(lambda stack: self.caller(stack) if self.is_own(stack) else "")

    def by(self, key: Callable[[SymbolizedStack], str]) -> dict[str, Row]:
        """One row for each key: "" leaves a stack out."""
        sums: defaultdict[str, Counts] = defaultdict(Counts)
        for stack, counts in self.stacks:
            if name := key(stack):
                sums[name] += counts
        return {name: Row(each.allocations, each.frees, each.outstanding_bytes) for name, each in sums.items()}

    def is_own(self, stack: SymbolizedStack) -> bool:
        """True where the program itself called the allocator, and no library did it for it."""
        return bool(stack.frames) and stack.frames[0].module == self.module

    def caller(self, stack: SymbolizedStack) -> str:
        """Who called the allocator: a function of the program, or a library."""
        if not stack.frames:
            return UNKNOWN
        return stack.frames[0].name if self.is_own(stack) else stack.frames[0].module


def count(tracer: Tracer) -> Counted:
    """Read a tracer. The process has to be there still, for its symbols."""
    snapshot = tracer.snapshot()
    with Symbolizer(tracer.process, NO_DEBUG_FILES) as symbolizer:
        stacks = tuple(
            (symbolizer.symbolize(tracer.frames(stack)), counts)
            for stack, counts in snapshot.counts.items()
            if counts.allocations or counts.frees
        )
    module = Path(f"/proc/{tracer.process.thread}/exe").readlink().name
    return Counted(module, stacks, {kind.name: lost for kind, lost in tracer.lost().items() if lost})


def report_on(tracer: Tracer, *steps: Callable[[], object]) -> Report:
    """The report of a window in which one step after another is taken, each followed by a look."""
    left = list(steps)

    def pause(seconds: float) -> bool:
        del seconds
        left.pop(0)()
        return bool(left)

    with Symbolizer(tracer.process, NO_DEBUG_FILES) as symbolizer:
        window = measure(tracer, symbolizer, None, sample_count=SAMPLES_PER_WINDOW, pause=pause)
        return build_report(tracer, window, symbolizer)


def probes_held() -> int:
    """The descriptors that keep probes. Others come and go: threads read /proc meanwhile."""
    held = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            held += str(descriptor.readlink()).startswith(("anon_inode:bpf", "anon_inode:[perf_event]"))
    return held
