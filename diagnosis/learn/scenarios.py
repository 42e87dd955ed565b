"""The scenarios: small services, each with growth of its own kind, to be told apart by what `trace` says of them.

Each is a program in ``scenarios/`` that counts itself what it holds and what it leaked, in a file that it maps. Neither
its name, nor its arguments, environment or folder say which scenario it is.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.lab.child import PROJECT
from diagnosis.lab.unprivileged import choose_user
from diagnosis.learn.compiling import compile_in, hand_over
from diagnosis.learn.owner import as_owner, read_own
from diagnosis.learn.patching import is_applied, run_patch
from diagnosis.learn.running import Ledger, Running
from diagnosis.learn.state import write_new

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from diagnosis.lab.unprivileged import User

__all__ = [
    "SCENARIOS",
    "Ledger",
    "Running",
    "Scenario",
    "apply_fix",
    "build",
    "build_edited",
    "choose",
    "copy_sources",
    "read_sources",
    "start",
    "write_sources",
]

SOURCES = PROJECT / "scenarios"
FIXES = SOURCES / "fixes"

# What every scenario's program is called where it runs.
NEUTRAL_NAME = "service"

PODS = 10

# What every program shares, the sources that are extensions of Python, and the script that runs these.
_COMMON = ("service.c", "service.h")
_MODULES = frozenset({"quotes.c"})
SCRIPT = f"{NEUTRAL_NAME}.py"

# As native/leak is compiled: names, lines and frames for every tool.
FLAGS = (
    "-std=gnu17",
    "-O2",
    "-g",
    "-Wall",
    "-Wextra",
    "-fno-omit-frame-pointer",
    "-fno-optimize-sibling-calls",
    "-pthread",
)


@dataclass(frozen=True)
class Scenario:
    """One scenario, and what `trace` must answer.

    Attributes:
        name: what it is called in the catalog and the messages.
        difficulty: 1 to 3.
        answer: the verdict's value: leak, growing or no leak.
        function: the function to name; "" where there is none.
        caller: who calls it; "" where there is none, or it does not matter.
        source: the file to fix, relative to scenarios/; "" for the lab's own service.
        kind: heap, stacks, shared, mappings, allocator or pods.
        trace_options: what `trace` needs beside --pid.
    """

    name: str
    difficulty: int
    answer: str
    function: str
    caller: str
    source: str
    kind: str
    trace_options: tuple[str, ...] = ("--duration", "8s")

    @property
    def fix(self) -> Path | None:
        """The patch that ends the leak; None where there is none to end, and for the lab's own service."""
        path = FIXES / f"{self.name}.patch"
        return path if path.exists() else None


CATALOG_CACHE = "catalog-cache"

_ALL = (
    Scenario(CATALOG_CACHE, 1, "leak", "catalog_cache_insert", "catalog_cache_refresh", "", "heap"),
    Scenario("error-path", 1, "leak", "order_parse", "order_accept", "orders.c", "heap"),
    Scenario("append-only-index", 2, "leak", "postings_append", "index_add", "search.c", "heap"),
    Scenario("reference-counts", 3, "leak", "quote_new", "quotes_update", "quotes.c", "heap"),
    Scenario("warm-cache", 2, "no leak", "", "", "sessions.c", "heap"),
    Scenario("fragmentation", 3, "no leak", "", "", "reports.c", "allocator"),
    Scenario("unjoined-threads", 2, "growing", "mail_start", "", "mailer.c", "stacks"),
    Scenario("shared-memory", 3, "growing", "frame_share", "", "frames.c", "shared"),
    Scenario("ten-pods", 2, "leak", "client_open", "gateway_accept", "gateway.c", "pods"),
)
SCENARIOS: dict[str, Scenario] = {each.name: each for each in _ALL}


def choose(seed: int | None = None, difficulty: int | None = None, *, own: bool = False) -> Scenario:
    """One of the scenarios at random: the same for the same seed.

    Args:
        seed: of the choice.
        difficulty: only those that are as difficult, 1 to 3.
        own: only those with a program of their own: not the lab's service.
    """
    among = [each for each in _ALL if difficulty in {None, each.difficulty} and (each.source or not own)]
    return random.Random(seed).choice(among)  # noqa: S311 - a choice of exercise


def copy_sources(scenario: Scenario, folder: Path) -> Path:
    """Copy what a scenario is built from into ``folder``, to be edited there; returns the file to fix."""
    _own(scenario)
    write_sources({name: (SOURCES / name).read_text() for name in _needed(scenario)}, folder)
    return folder / scenario.source


def read_sources(scenario: Scenario, folder: Path) -> dict[str, str]:
    """What a scenario is built from, as a learner has edited it, by name.

    Raises:
        LabError: one of the files cannot be read.
    """
    return {name: read_own(folder / name) for name in _needed(scenario)}


def write_sources(sources: Mapping[str, str], folder: Path) -> None:
    """Write sources into a folder of the learner's, in place of what is there.

    Raises:
        LabError: they cannot be written.
    """
    try:
        with as_owner(folder):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(f"{folder} cannot be written: {error.strerror}", "name another folder: --folder DIR") from error
    for name, text in sources.items():
        write_new(folder / name, text)


def apply_fix(scenario: Scenario, sources: Path) -> None:
    """Apply the scenario's patch to a copy of its sources.

    Raises:
        LabError: there is no patch, it is applied already, or it does not fit what was edited: nothing is changed then.
    """
    if scenario.fix is None:
        raise LabError("this scenario has nothing to fix", "it does not leak")
    where = ("-p1", "-d", str(sources))
    done = run_patch(sources, scenario.fix, *where)
    if done.returncode and is_applied(sources, scenario.fix, *where):
        raise LabError(f"the patch is applied to {sources / scenario.source} already", "type check")
    if done.returncode:
        raise LabError("patch does not take the source", (done.stderr or done.stdout).strip())


def build(
    scenario: Scenario,
    folder: Path,
    sources: Path = SOURCES,
    extra_flags: Sequence[str] = (),
    user: User | None = None,
) -> list[str]:
    """Compile a scenario's program into ``folder``; returns the command that runs it there, without its arguments.

    Args:
        scenario: which.
        folder: where to.
        sources: what it is built from: the shipped sources, or an edited copy of them.
        extra_flags: of the compiler.
        user: the user that compiles, for sources that were edited, whose script is there already; None for who runs
            this.

    Raises:
        LabError: the compiler is missing, or does not take the source: the text holds what it said.
    """
    _own(scenario)
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / NEUTRAL_NAME
    inputs = [str(sources / scenario.source), str(sources / "service.c")]
    flags = [*FLAGS, *extra_flags]
    if not _is_module(scenario):
        _compile(folder, ["cc", *flags, *inputs, "-o", str(program)], user, "gcc libc6-dev")
        return [str(program)]
    include = sysconfig.get_path("include")
    module = folder / f"{Path(scenario.source).stem}.so"
    # The interpreter's headers are not held to this project's warnings.
    shared = ["-fPIC", "-shared", "-isystem", include]
    script = folder / SCRIPT
    if user is None:
        shutil.copyfile(sources / SCRIPT, script)
        script.chmod(0o644)
    _compile(folder, ["cc", *flags, *shared, *inputs, "-o", str(module)], user, "gcc libc6-dev python3-dev")
    return [sys.executable, str(script)]


def start(
    scenario: Scenario,
    folder: Path,
    speed: float = 1.0,
    sources: Mapping[str, str] | None = None,
    *,
    pods: int = PODS,
    seed: int | None = None,
) -> Running:
    """Build a scenario and start it as the unprivileged user, at ``speed`` times its own pace.

    Args:
        scenario: which.
        folder: a working folder: the program, its ledger. What is in it already is overwritten.
        speed: above 0.
        sources: what it is built from, by name, as `read_sources` reads it; None for the shipped sources.
        pods: how many, of a scenario of several equal services.
        seed: which of them leaks: the same for the same seed.

    Raises:
        LabError: it cannot be built or does not start.
    """
    folder = folder.resolve()
    command = build(scenario, folder) if sources is None else build_edited(scenario, folder, sources)
    count = pods if scenario.kind == "pods" else 1
    selected = random.Random(seed).randrange(count)  # noqa: S311 - which pod leaks
    return Running(command, folder, speed, count, selected)


# --- parts ---


def _is_module(scenario: Scenario) -> bool:
    return scenario.source in _MODULES


def _needed(scenario: Scenario) -> tuple[str, ...]:
    # The file to fix comes last: where it is there, all are.
    return (*_COMMON, *([SCRIPT] if _is_module(scenario) else []), scenario.source)


def _own(scenario: Scenario) -> None:
    if not scenario.source:
        raise ValueError(f"{scenario.name} is the lab's own service: memleak-lab run starts it")


def build_edited(scenario: Scenario, folder: Path, sources: Mapping[str, str]) -> list[str]:
    """Compile what somebody edited, by the user that runs it: in a folder of its own, beside the ledgers."""
    built = folder / "built"
    edited = built / "source"
    shutil.rmtree(built, ignore_errors=True)
    edited.mkdir(parents=True)
    for name, text in sources.items():
        (edited / name).write_text(text)
    if _is_module(scenario):
        shutil.copyfile(edited / SCRIPT, built / SCRIPT)  # by root while the folder is root's
    user = choose_user(os.environ, os.geteuid())
    hand_over(built, user)
    return build(scenario, built, edited, user=user)


def _compile(folder: Path, command: Sequence[str], user: User | None, packages: str) -> None:
    done = compile_in(folder, command, user, packages)
    if done.returncode:
        raise LabError(f"{command[0]} does not take the source", (done.stderr or done.stdout).strip())
