"""How far a learner has come, in a file: it survives Ctrl-C, and `--resume` goes on from it. No answer is in it."""

from __future__ import annotations

import json
import os
import pwd
from dataclasses import asdict, dataclass, field
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.base.files import read_regular
from diagnosis.base.units import MIB
from diagnosis.learn.owner import as_owner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from diagnosis.lab.unprivileged import User

__all__ = ["FILE", "UNFINISHED", "State", "default_folder", "read_state", "write_new", "write_state"]

SCHEMA = "memleak-lab/learn/1"
FILE = "learn.json"
# What a file is named as well until it is whole.
UNFINISHED = ".new"

# What a file that was written here stays below; another one is damaged.
MAX_BYTES = MIB
MAX_SPEED = 1e6
MAX_HINTS = 100


@dataclass
class State:
    """How far one has come.

    Attributes:
        scenario: by its name in the catalog.
        speed: of the service.
        current: the number of the task, from 0.
        passed: the tasks whose checks held.
        revealed: those whose answers were asked for.
        hints: how many were asked for, by task.
        pids: the service's, in the order of its starts: a capture must be of one of them.
        fixed_from: the first of ``pids``, by its number, that ran the learner's own build; None before that.
        elsewhere: whether the service ran already, and is not started by `learn`.
    """

    scenario: str
    speed: float
    current: int = 0
    passed: list[str] = field(default_factory=list)
    revealed: list[str] = field(default_factory=list)
    hints: dict[str, int] = field(default_factory=dict)
    pids: list[int] = field(default_factory=list)
    fixed_from: int | None = None
    elsewhere: bool = False


def default_folder(environ: Mapping[str, str], user: User, scenario: str = "") -> Path:
    """Where the state and the files of a learner are, by the XDG rules; with sudo, in the home of who called it.

    A scenario has a folder of its own, so that the eight tasks and it can be gone on with one beside the other.
    """
    state = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):  # noqa: PTH117 - "" is no path
        own = pwd.getpwuid(user.uid if environ.get("SUDO_UID") else os.getuid())
        state = os.path.join(own.pw_dir, ".local", "state")  # noqa: PTH118 - as above
    return Path(state) / "memleak-lab" / "learn" / scenario


def write_new(path: Path, text: str) -> None:
    """Write a file that is the learner's, in place of what has its name: never through a link that lies there.

    Raises:
        LabError: it cannot be written. It is as it was then, and nothing is left beside it.
    """
    new = path.with_name(path.name + UNFINISHED)
    try:
        with as_owner(path.parent):
            new.unlink(missing_ok=True)
            try:
                with new.open("x") as file:
                    file.write(text)
                new.replace(path)
            except BaseException:
                new.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise LabError(f"{path} cannot be written: {error.strerror}", "name another folder: --folder DIR") from error


def write_state(folder: Path, state: State) -> None:
    """Keep it, at once or not at all.

    Raises:
        LabError: the file cannot be written.
    """
    write_new(folder / FILE, json.dumps({"schema": SCHEMA, **asdict(state)}, indent=2) + "\n")


def read_state(folder: Path, tasks: int, scenario: str = "") -> State:
    """What was kept.

    Args:
        folder: where.
        tasks: how many there are.
        scenario: the one that was asked for, for the command that begins it; "" for none.

    Raises:
        LabError: there is none, or it is not what `write_state` wrote.
    """
    path = folder / FILE
    options = f"{f'--scenario {quote(scenario)} ' if scenario else ''}--folder {quote(str(folder))}"
    anew = f"begin anew: memleak-lab learn --new {options}"
    try:
        with as_owner(folder):
            document = json.loads(read_regular(path, MAX_BYTES))
    except FileNotFoundError as error:
        raise LabError(f"nothing was begun in {folder}", f"memleak-lab learn {options}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise LabError(f"{path} cannot be read: {error}", anew) from error
    try:
        schema = document.pop("schema")
        state = State(**document)
        _check(schema, state, tasks)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise LabError(f"{path} is damaged: its values are not those that learn writes", anew) from error
    return state


def _check(schema: object, state: State, tasks: int) -> None:
    """Raise a ValueError for a value that was never written."""
    fine = (
        schema == SCHEMA
        and isinstance(state.scenario, str)
        and isinstance(state.speed, (int, float))
        and 0 < state.speed <= MAX_SPEED
        and isinstance(state.current, int)
        and 0 <= state.current <= tasks
        and all(isinstance(name, str) for name in [*state.passed, *state.revealed, *state.hints])
        and all(isinstance(number, int) for number in [*state.pids, *state.hints.values()])
        and all(0 <= number <= MAX_HINTS for number in state.hints.values())
        and (state.fixed_from is None or isinstance(state.fixed_from, int))
        and isinstance(state.elsewhere, bool)
    )
    if not fine:
        raise ValueError("a value is of the wrong kind")
