"""Loaded eBPF programs, each with the unwind tables of a process: for one trace, or for many that follow each other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING

from heap_trace import HeapTrace, TraceClosedError, TraceError, Unwinding, UnwindMode
from heap_trace.trace import RING_BYTES
from heap_trace.unwind import Capacity

from diagnosis.base.errors import LabError
from diagnosis.target.unwinding import SPARE, ProcessTables
from diagnosis.trace.refusals import is_traced_elsewhere

if TYPE_CHECKING:
    from concurrent.futures import Future

    from heap_trace import PythonFrames

    from diagnosis.target.allocator import Surveys
    from diagnosis.target.process import Process
    from diagnosis.trace.tracer import Tracing

# Programs that are kept loaded without a process. Each has maps of its own, of some 30 MiB.
MAX_IDLE = 8


@dataclass(frozen=True)
class Room:
    """What a program's rings have, in bytes each, and its unwind tables beyond what is mapped."""

    ring_bytes: int
    spare: Capacity


ROOM = Room(RING_BYTES, SPARE)
# Of one among many: with 64 of them this process stays below 500 MiB, of which a ring takes its size twice.
ROOM_OF_MANY = Room(RING_BYTES // 8, Capacity(SPARE.rows // 4, SPARE.chunks // 4, SPARE.rules // 4))


@dataclass(frozen=True)
class Program:
    """One loaded program: its trace, its unwind tables (None: by frame pointers), and what a reader has to know.

    ``python`` is among its constants: another process has to have its interpreter at the same place, as forks have.
    """

    trace: HeapTrace
    tables: ProcessTables | None
    python: PythonFrames
    notes: tuple[str, ...] = ()


def load(
    process: Process, tracing: Tracing, python: PythonFrames, *, room: Room = ROOM, allow_session: bool = True
) -> Program:
    """Load the program, and the tables of what is mapped; by frame pointers where the kernel refuses the walk.

    Raises:
        LabError: the process has ended.
        TraceError: the kernel refuses the program.
    """

    def opened(unwinding: Unwinding) -> HeapTrace:
        return HeapTrace(
            max_blocks=tracing.max_blocks,
            max_stacks=tracing.max_stacks,
            ring_bytes=room.ring_bytes,
            min_bytes=tracing.min_bytes,
            count_calls=tracing.max_rate is not None,
            allow_session=tracing.allow_session and allow_session,
            unwinding=unwinding,
            python=python,
        )

    if tracing.unwind is UnwindMode.OFF:
        return Program(opened(Unwinding()), None, python)
    tables = ProcessTables(process)
    try:
        trace = opened(Unwinding(tracing.unwind, tables.capacity(room.spare)))
    except TraceError as refusal:
        reason = str(refusal).split("\n")[0]
        note = f"Stacks are by frame pointers: this kernel refuses to unwind ({reason})."
        return Program(opened(Unwinding()), None, python, (note,))  # what refuses this as well is told of this
    if trace.tables:
        tables.load(trace.tables)
    return Program(trace, tables, python)


class Programs:
    """Gives every trace a loaded program.

    To load one takes the kernel up to a second, in which a worker of a server can begin and end. So as many as are
    wanted lie ready, and that of a process that has ended serves the next one. Close it after the traces.

    Args:
        tracing: how is traced.
        spares: how many lie ready at least, once the first one was taken.
        surveys: what is known of files that have allocators; None: nothing is kept.
    """

    def __init__(self, tracing: Tracing, *, spares: int = 0, surveys: Surveys | None = None) -> None:
        self.tracing = tracing
        self.surveys = surveys
        self._spares = spares
        self.several = spares > 0  # traces at a time
        self._room = ROOM_OF_MANY if self.several else ROOM
        self.others = is_traced_elsewhere()
        self._lock = Lock()
        self._idle: list[Program] = []
        self._loading: list[Future[None]] = []
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="programs")

    def take(self, process: Process, python: PythonFrames, *, allow_session: bool = True) -> Program:
        """A program for a trace of this process, whose interpreter of Python has its frames there.

        Raises:
            LabError: the process has ended.
            TraceError: the kernel refuses the program.
        """
        program = self._ready(process, python) if allow_session else None
        if program is None:
            program = load(process, self.tracing, python, room=self._room, allow_session=allow_session)
        self._refill(process, python)
        return program

    def give_back(self, program: Program, process: Process) -> None:
        """Detach its probes. Where the process has ended, another one can have it."""
        with self._lock:
            keep = self._spares > 0 and len(self._idle) < MAX_IDLE
        if not keep or process.alive():
            program.trace.close()
            return
        try:
            renewed = replace(program, trace=program.trace.renew())
        except (TraceError, TraceClosedError):
            return
        with self._lock:
            self._idle.append(renewed)

    def wait(self) -> None:
        """Until as many lie ready as are wanted."""
        for loading in self._loading:
            loading.result()

    def close(self) -> None:
        """Unload what lies ready."""
        self._loader.shutdown(cancel_futures=True)
        for program in self._idle:
            program.trace.close()

    def _ready(self, process: Process, python: PythonFrames) -> Program | None:
        useless = None
        with self._lock:
            program = next((each for each in self._idle if each.python == python), None)
            if program:
                self._idle.remove(program)
            elif len(self._idle) >= MAX_IDLE:
                # Its interpreter may be where none comes any more: each exec has it somewhere else.
                useless = self._idle.pop(0)
        if useless:
            useless.trace.close()
        if program and program.tables:
            try:
                program.tables.follow(process)
            except (LabError, OSError):
                program.trace.close()
                raise
        return program

    def _refill(self, process: Process, python: PythonFrames) -> None:
        with self._lock:
            self._loading = [each for each in self._loading if not each.done()]
            for _ in range(self._spares - len(self._idle) - len(self._loading)):
                self._loading.append(self._loader.submit(self._load_spare, process, python))

    def _load_spare(self, process: Process, python: PythonFrames) -> None:
        try:
            program = load(process, self.tracing, python, room=self._room)
        except (LabError, OSError):
            return  # whoever needs one loads it, and meets the same error where it can be handled
        with self._lock:
            self._idle.append(program)
