"""What a learner works on: the service held open, its files, and the rebuilt service after an edit."""

from __future__ import annotations

from shlex import join
from typing import TYPE_CHECKING

from catalog_cache import Options

from diagnosis.base.errors import LabError
from diagnosis.learn.catalog import SOURCE, Build, CatalogService, apply_patch, copy_source
from diagnosis.learn.held import Held
from diagnosis.learn.owner import read_own
from diagnosis.learn.state import write_new, write_state
from diagnosis.learn.trial import Answers, try_build

if TYPE_CHECKING:
    from pathlib import Path

    from diagnosis.lab.unprivileged import User
    from diagnosis.learn.elsewhere import Elsewhere
    from diagnosis.learn.state import State
    from diagnosis.learn.trial import Trial

__all__ = ["BUILT", "CatalogBench"]

# The learner's source as it was last built and answered right: what is edited meanwhile may not compile.
BUILT = "built.c"

# A trace takes a few steps of the leak to call it one, and so many seconds in any case.
STEPS_OF_A_TRACE = 6
SHORTEST_TRACE_SECONDS = 5.0

# A service that has used this share of what the leak may take is started anew, as its platform would do it.
CAP_SHARE = 0.95


class CatalogBench(Held):
    """The running service and the learner's files. Use it as a context manager.

    Args:
        state: how far the learner has come; the service's pids are noted in it.
        folder: of the learner's files.
        user: the user that the service runs as.
        fixed_ports: take the ports that the documents name, where they are free.
        elsewhere: a service that runs already, and that is left as it is; None to start one.

    Raises:
        LabError: the service does not start.
    """

    def __init__(
        self, state: State, folder: Path, user: User, *, fixed_ports: bool, elsewhere: Elsewhere | None = None
    ) -> None:
        super().__init__(state, folder)
        self._user, self._fixed_ports, self._elsewhere = user, fixed_ports, elsewhere
        self._build: Build | None = None
        if state.fixed_from is not None:
            self._build = Build(folder / BUILT, user)
        self.service = self._started()

    @property
    def page_of_texts(self) -> str:
        """The table of its first page."""
        return "catalog"

    @property
    def source(self) -> Path:
        """The C file that the learner edits: a copy, made when it is first asked for."""
        return copy_source(self.folder)

    @property
    def going_on(self) -> str:
        """The line that goes on with these files, and with the same service where that is not started here."""
        return f"{super().going_on} {join(self._elsewhere.options)}" if self._elsewhere else super().going_on

    @property
    def trace_seconds(self) -> float:
        """How long a trace has to be to see the leak at this speed."""
        return max(SHORTEST_TRACE_SECONDS, round(STEPS_OF_A_TRACE * Options().period_seconds / self.state.speed))

    @property
    def is_built(self) -> bool:
        """True where the service runs what is in the learner's file now."""
        return self._build is not None and self._build.text == read_own(self.source)

    def values(self) -> dict[str, object]:
        """What texts name: addresses, files, commands."""
        at = self.service.at
        return {
            "http": at.http,
            "metrics": at.metrics,
            "ledger": at.ledger,
            "pid": self.service.pid,
            "folder": self.folder,
            "source": self.folder / SOURCE.name,
            "before": self.before,
            "after": self.after,
            "speed": f"{self.state.speed:g}",
            "seconds": f"{self.trace_seconds:g}",
            "cli": self.cli,
        }

    def apply_fix(self) -> None:
        """Apply the shipped patch to the learner's copy.

        Raises:
            LabError: it does not fit what was edited.
        """
        apply_patch(self.source)

    def rebuild(self) -> Trial:
        """Compile the learner's file and try what it makes; the service runs it from then on if it answers right.

        Raises:
            LabError: it does not compile.
        """
        build = Build(self.source, self._user)
        try:
            trial = try_build(build, self._user)
        except BaseException:
            build.close()
            raise
        if trial.answers is not Answers.RIGHT:
            build.close()
            return trial
        write_new(self.folder / BUILT, build.text)
        old, self._build = self._build, build
        self.state.fixed_from = len(self.state.pids)
        self.restart()
        if old:
            old.close()
        return trial

    def unfix(self) -> None:
        """Start the service without the learner's build; the file stays as it is edited."""
        old, self._build = self._build, None
        self.state.fixed_from = None
        self.restart()
        if old:
            old.close()

    def restart(self) -> None:
        """Start the service anew, as its platform would."""
        self.service.close()
        self.service = self._started()

    def ensure(self) -> bool:
        """Start the service anew where it has ended, or leaked all that it may; True where that was so."""
        if self._elsewhere:
            return False
        try:
            if not self.service.ended() and not self.is_spent():
                return False
        except LabError:
            pass
        self.restart()
        return True

    def is_spent(self) -> bool:
        """Whether the service has leaked all that it may: it grows no more, and no trace will call it a leak.

        Raises:
            LabError: it does not answer.
        """
        reading = self.service.ledger.read()
        return reading.bytes_live >= CAP_SHARE * reading.cap_bytes

    def _started(self) -> CatalogService | Elsewhere:
        service = self._elsewhere or CatalogService(
            self.state.speed, self._user, self._build, fixed_ports=self._fixed_ports
        )
        self.state.pids.append(service.pid)
        write_state(self.folder, self.state)
        return service

    def close(self) -> None:
        """Stop the service, but for one that ran already; the files stay."""
        self.service.close()
        if self._build:
            self._build.close()
