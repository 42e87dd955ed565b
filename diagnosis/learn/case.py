"""A scenario as the learner's subject: its processes, the learner's copy of its source, and its tasks."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from shlex import join, quote
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.base.units import GIB
from diagnosis.learn.captures import both_captures, capture_of
from diagnosis.learn.held import Held
from diagnosis.learn.owner import as_owner, read_own
from diagnosis.learn.pages import read_pages
from diagnosis.learn.proof import Holds, prove_by_verdict
from diagnosis.learn.scenarios import SOURCES as SHIPPED
from diagnosis.learn.scenarios import apply_fix, copy_sources, read_sources, start, write_sources
from diagnosis.learn.state import write_state
from diagnosis.learn.task import Outcome, Task, no, yes
from diagnosis.report.verdict import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diagnosis.learn.running import Running
    from diagnosis.learn.scenarios import Scenario
    from diagnosis.learn.state import State

__all__ = ["BUILT", "SOURCES", "CaseBench", "tasks_of"]

# The learner's copies of the sources, in the folder.
SOURCES = "source"

# The same as they were when they last compiled: what is edited meanwhile may not.
BUILT = "built"

# What fills a cache until it is in its everyday state takes this long at most, on a busy machine.
SETTLE_SECONDS = 120.0
# How long a trace has to be.
TRACE_SECONDS = 8.0
# A service that has leaked this much is started anew, as its platform would do it.
MOST_LEAKED_BYTES = GIB


class CaseBench(Held):
    """A scenario's running processes and the learner's files. Use it as a context manager.

    Args:
        scenario: which.
        state: how far the learner has come; the pid that the answer is about is noted in it.
        folder: of the learner's files.
        language: of the scenario's page.
        settled: wait until the service is in its everyday state. A learner comes earlier, as people do: a window in
            which a cache fills looks like a leak, and a second one tells.

    Raises:
        LabError: it cannot be built, or does not start.
    """

    def __init__(self, scenario: Scenario, state: State, folder: Path, language: str, *, settled: bool = False) -> None:
        super().__init__(state, folder)
        self.scenario = scenario
        self.page = read_pages(language)[scenario.name]
        self._settled = settled
        self._built_from = ""
        self._work: list[Path] = []
        try:
            self.running = self._started()
        except BaseException:
            self._remove()
            raise

    @property
    def page_of_texts(self) -> str:
        """The table of its first page."""
        return "case"

    @property
    def source(self) -> Path:
        """The C file that the learner edits: a copy, made when it is first asked for."""
        path = self.folder / SOURCES / self.scenario.source
        with as_owner(self.folder):
            is_there = path.exists()
        if not is_there:
            copy_sources(self.scenario, path.parent)
        return path

    @property
    def trace_seconds(self) -> float:
        """How long a trace has to be."""
        return TRACE_SECONDS

    @property
    def is_built(self) -> bool:
        """True where the service runs what is in the learner's file now."""
        return self.state.fixed_from is not None and self._built_from == read_own(self.source)

    def values(self) -> dict[str, object]:
        """What texts name."""
        pids = self.running.pids
        return {
            "story": self.page.story,
            "name": self.page.title,
            # What to do is a hint of the task to fix it; where there is no such task, it is said at once.
            "explanation": self.page.explanation if self.scenario.fix else f"{self.page.explanation} {self.page.fix}",
            "howto": self.page.fix,
            "pids": ", ".join(map(str, pids)),
            "folder": self.folder,
            "source": self.folder / SOURCES / self.scenario.source,
            "seconds": f"{self.trace_seconds:g}",
            "before": self.before,
            "after": self.after,
            "speed": f"{self.state.speed:g}",
            "cli": self.cli,
            "pid": self.running.pid,
        }

    def trace_command(self, file: Path) -> str:
        """The command that traces the service into a file."""
        options = join(self.scenario.trace_options)
        return f"{self.cli} trace --pid {self.running.pid} {options} --save {quote(str(file))}"

    def apply_fix(self) -> None:
        """Apply the shipped patch to the learner's copy."""
        apply_fix(self.scenario, self.source.parent)

    def rebuild(self) -> None:
        """Compile the learner's file and start the service with it; the earlier one runs on where that fails.

        Raises:
            LabError: it does not compile, or ends.
        """
        sources = read_sources(self.scenario, self.source.parent)
        self._replace(self._start(sources, is_new=True))

    def ensure(self) -> bool:
        """Start the service anew where it has ended, or leaked all that it may; True where that was so."""
        try:
            if self.running.ledger().leaked < MOST_LEAKED_BYTES:
                return False
        except LabError:
            pass
        self._replace(self._started())
        return True

    def unfix(self) -> None:
        """Start the service as it came; the learner's files stay as they are edited."""
        self._replace(self._start(None))

    def _replace(self, running: Running) -> None:
        # The new one first: there is always one that runs, whatever fails.
        self.running.stop()
        self.running = running

    def _started(self) -> Running:
        """Start the learner's last build; the service as it came where there is none, or where it does not start."""
        if self.state.fixed_from is None:
            return self._start(None)
        try:
            return self._start(read_sources(self.scenario, self.folder / BUILT))
        except LabError as error:
            running = self._start(None)
            self.not_started = error
            return running

    def _start(self, sources: Mapping[str, str] | None, *, is_new: bool = False) -> Running:
        """Start the service, and note it: only when it runs. ``sources`` are the learner's; None for the shipped."""
        work = Path(tempfile.mkdtemp(prefix="memleak-lab-run-"))
        self._work.append(work)
        running = start(self.scenario, work, self.state.speed, sources)
        earlier = self.state.fixed_from
        try:
            if self._settled:
                running.settle(SETTLE_SECONDS)
            if sources is not None and is_new:
                write_sources(sources, self.folder / BUILT)
            if sources is None or is_new:
                self.state.fixed_from = None if sources is None else len(self.state.pids)
            self.state.pids.append(running.pid)
            write_state(self.folder, self.state)
        except BaseException:
            running.stop()
            self.state.fixed_from = earlier
            raise
        self._built_from = "" if sources is None else sources[self.scenario.source]
        return running

    def _remove(self) -> None:
        for each in self._work:
            shutil.rmtree(each, ignore_errors=True)

    def close(self) -> None:
        """Stop the service; the learner's files stay."""
        self.running.stop()
        self._remove()


def check_trace(bench: CaseBench, words: Sequence[str]) -> Outcome:
    """A capture of the process that the answer is about."""
    del words
    known = bench.state.pids[: bench.state.fixed_from]
    capture = capture_of(bench.before, known, bench.running.pid, bench.trace_seconds)
    if isinstance(capture, Outcome):
        pids = {*bench.running.pids}
        key = "another" if capture.key == "other" and capture.values["pid"] in pids else capture.key
        return no(key, **capture.values)
    return yes(took=f"{capture.report.window_seconds:.0f}")


def check_verdict(bench: CaseBench, words: Sequence[str]) -> Outcome:
    """The verdict, and the function where there is one."""
    text = " ".join(words).lower()
    answer = next((each for each in (Answer.NO_LEAK, Answer.GROWING, Answer.LEAK) if text.startswith(each)), None)
    if answer is None:
        return no("incomplete")
    if answer != bench.scenario.answer:
        return no("verdict", typed=str(answer))
    named = [word.strip(",;()") for word in words]
    if bench.scenario.function and len(words) == 1:
        return no("incomplete")
    if bench.scenario.function and bench.scenario.function not in named:
        return no("function")
    return yes(**sealed_verdict(bench))


def sealed_verdict(bench: CaseBench) -> Mapping[str, object]:
    """The scenario's answer."""
    return {"answer": f"{bench.scenario.answer} {bench.scenario.function}".strip()}


def check_fix(bench: CaseBench, words: Sequence[str]) -> Outcome:
    """Compile the learner's file, and start the service with it."""
    del words
    if read_own(bench.source) == (SHIPPED / bench.scenario.source).read_text():
        return no("unchanged", source=bench.source)
    try:
        bench.rebuild()
    except LabError as error:
        return no("compiler", error=error)
    return yes(pid=bench.running.pid)


def check_prove(bench: CaseBench, words: Sequence[str]) -> Outcome:
    """Two captures, before the fix and after it."""
    del words
    if not bench.is_built:
        return no("not_built")
    captures = both_captures(bench, bench.running.pid)
    if isinstance(captures, Outcome):
        return captures
    before, after = captures
    holds = prove_by_verdict(before.report, after.report)
    values = {"verdict": after.report.verdict}
    key = "right" if holds is Holds.YES else "wrong"
    return Outcome(passed=holds is Holds.YES, key=key, values=values, captures=captures)


_TRACE = Task[CaseBench]("case_trace", check_trace, lambda _: {}, lambda bench: bench.trace_command(bench.before), 2)
_VERDICT = Task[CaseBench](
    "case_verdict",
    check_verdict,
    sealed_verdict,
    lambda bench: f"{bench.cli} report {quote(str(bench.before))}",
    2,
)
_FIX = Task[CaseBench]("case_fix", check_fix, lambda _: {}, lambda _: "fix", 3)
_PROVE = Task[CaseBench]("case_prove", check_prove, lambda _: {}, lambda bench: bench.trace_command(bench.after), 1)


def tasks_of(scenario: Scenario, state: State) -> tuple[Task[CaseBench], ...]:
    """The tasks of a scenario. There is something to fix only where something grows that should not.

    That there are more tasks would tell that: they come when the verdict is known, or left.
    """
    is_known = state.current > 1 or _VERDICT.name in {*state.passed, *state.revealed}
    return (_TRACE, _VERDICT, _FIX, _PROVE) if scenario.fix and is_known else (_TRACE, _VERDICT)
