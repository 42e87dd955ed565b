"""What `trace` traces: a process, by pid, container or pod, or a command that it starts."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.lab.unprivileged import choose_user
from diagnosis.target.launch import Account, Launched
from diagnosis.target.libc import is_libc
from diagnosis.target.members import container_of, family_of, own_family
from diagnosis.target.process import Process
from diagnosis.target.procfs import runs
from diagnosis.target.sharing import share_memory
from diagnosis.target.targets import process_of_container, process_of_pod

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from diagnosis.target.members import Members

# How long a program may take to map its libraries, and how often is looked.
LOADING_SECONDS, LOOK_SECONDS = 0.5, 0.01


@dataclass(frozen=True)
class OpenedTarget:
    """The process to trace.

    ``started`` is the command that was started for it, and that waits for `resume`; ``members`` tells which processes
    are traced together with it: None for it alone.
    """

    process: Process
    started: Launched | None = None
    members: Members | None = None

    def resume(self) -> None:
        """Let a command that was started begin. Has no effect on what runs already."""
        if self.started:
            self.started.resume()

    def renewed(self) -> OpenedTarget:
        """The same process as what it became, once that has its libraries.

        Raises:
            LabError: it has ended.
        """
        process = Process(self.process.pid, self.process.proc)
        until = time.monotonic() + LOADING_SECONDS
        while time.monotonic() < until and not any(is_libc(each.path) for each in process.code_maps()):
            time.sleep(LOOK_SECONDS)  # one that is statically linked has none
        return replace(self, process=process)


@dataclass(frozen=True)
class Target:
    """One of four ways to say what is traced."""

    pid: int | None
    container: str | None
    pod: str | None
    command: tuple[str, ...]
    children: bool = False

    def check(self, *, started_first: Mapping[str, bool]) -> None:
        """Raise a LabError unless exactly one is given; also for options that want a process that runs already."""
        named = [*self._named, *(["-- COMMAND"] if self.command else [])]
        if not named:
            raise LabError(
                "trace needs one target", "name it by --pid P, --container NAME, --pod NAMESPACE/NAME or -- COMMAND"
            )
        if len(named) > 1:
            raise LabError(f"{' and '.join(named)} are {len(named)} targets, and there can be one", "keep one of them")
        for option, given in started_first.items():
            if given and self.command:
                raise LabError(f"{option} looks at a process that runs already", f"start it, then: {option} --pid P")

    @property
    def words(self) -> tuple[str, ...]:
        """The option that names what runs already, as it is typed; empty for a command."""
        return tuple(word for option in self._named.items() for word in option)

    @property
    def _named(self) -> dict[str, str]:
        """The options that name what runs already, and what they were given."""
        options = {"--pid": self.pid, "--container": self.container, "--pod": self.pod}
        return {name: str(value) for name, value in options.items() if value is not None}

    def find(self) -> Process:
        """The process, where no command is to be started.

        Raises:
            LabError: there is none, or it is this command's own.
        """
        process = self._find()
        if process.pid in own_family():
            raise LabError(f"pid {process.pid} is of this command itself", "name the process to look at: --pid P")
        return process

    def _find(self) -> Process:
        if self.container is not None:
            return process_of_container(self.container)
        if self.pod is not None:
            return process_of_pod(self.pod)
        return Process(self.pid or 0)

    def others(self, process: Process) -> tuple[int, ...]:
        """The processes beside the one that was found, with memory of their own: its children, or a container's all."""
        members = container_of(process) if self.pid is None else family_of(process)
        others = sorted({*members()} - {process.pid, *own_family()})
        return tuple(pid for pid in others if runs(process.proc / str(pid)) and not share_memory(process.pid, pid))

    @contextmanager
    def opened(self) -> Iterator[OpenedTarget]:
        """The process. A command is started for the user who called sudo: only the tracer has to be root."""
        if not self.command:
            yield self._running()
            return
        account = None
        if os.geteuid() == 0 and os.environ.get("SUDO_UID"):
            user = choose_user(os.environ, os.geteuid())
            account = Account(user.name, user.uid, user.gid)
        with Launched(self.command, account) as started:
            yield OpenedTarget(started.process, started, family_of(started.process) if self.children else None)

    def _running(self) -> OpenedTarget:
        process = self.find()
        if self.pid is None:  # a container is all of its processes
            return OpenedTarget(process, members=container_of(process))
        return OpenedTarget(process, members=family_of(process) if self.children else None)
