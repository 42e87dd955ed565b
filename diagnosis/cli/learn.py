"""``memleak-lab learn``: the guided path."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer
from catalog_cache import RANGES

from diagnosis.base.errors import LabError
from diagnosis.base.own_command import own_command
from diagnosis.cli.options import given_options, is_given, refuse_together, refuse_without, require_machine
from diagnosis.cli.target import Target
from diagnosis.cli.verify import DEFAULT_LEDGER
from diagnosis.doctor.preflight import Machine
from diagnosis.lab.unprivileged import choose_user
from diagnosis.learn.bench import BUILT, CatalogBench
from diagnosis.learn.case import BUILT as BUILT_SOURCES
from diagnosis.learn.case import SOURCES, CaseBench, tasks_of
from diagnosis.learn.catalog import SOURCE, Addresses
from diagnosis.learn.elsewhere import Elsewhere
from diagnosis.learn.held import AFTER, BEFORE
from diagnosis.learn.messages import Messages, choose_language
from diagnosis.learn.owner import as_owner
from diagnosis.learn.scenarios import CATALOG_CACHE, SCENARIOS, Scenario, choose
from diagnosis.learn.session import Session
from diagnosis.learn.solve import solve_case, solve_catalog
from diagnosis.learn.state import FILE, UNFINISHED, State, default_folder, read_state
from diagnosis.learn.task import B
from diagnosis.learn.tasks import FINDING, TASKS
from diagnosis.learn.terminal import learner_console

SPEEDS = f"{RANGES['speed'].low:g} to {RANGES['speed'].high:g}"
# What learn makes in its folder.
FILES = (FILE, SOURCE.name, BEFORE, AFTER, BUILT, SOURCES, BUILT_SOURCES)

RANDOM = "random"
SEEDS = 1_000_000

# What was chosen at the beginning is kept.
NOT_RESUMED = ("new", "solving", "speed", "seed", "difficulty")
ADD_RANDOM = f"add --scenario {RANDOM}"
DRAW_ONE = f"it draws a scenario: write --scenario {RANDOM}, or leave it out"
NAME_ONE = "name the service by one of these, or leave it out"

# The leak comes to its cap after 27 minutes at this speed, and requests slow down from minute 3 on.
LEARNER_SPEED = 10.0
# As fast as a trace of five seconds sees well.
SOLVER_SPEED = 60.0


def learn_command(
    context: typer.Context,
    *,
    scenario: Annotated[
        str, typer.Option(metavar="NAME", help=f"{', '.join(SCENARIOS)}; or {RANDOM}, which does not tell which.")
    ] = CATALOG_CACHE,
    seed: Annotated[int | None, typer.Option(help="With --scenario random: the same for the same seed.")] = None,
    difficulty: Annotated[
        int | None, typer.Option(min=1, max=3, help="With --scenario random: only those that are as difficult.")
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(
            help=f"Time runs this many times faster: {SPEEDS}; {LEARNER_SPEED:g} (--solve: {SOLVER_SPEED:g}),"
            " and 1 for other scenarios."
        ),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Your files: in XDG_STATE_HOME where none is named.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where you left.")] = False,
    new: Annotated[bool, typer.Option("--new", help="Begin anew: removes the files of the last time.")] = False,
    solving: Annotated[
        bool, typer.Option("--solve", help="Do every task by itself, with the learner's commands.")
    ] = False,
    any_port: Annotated[
        bool, typer.Option("--any-port", help="Listen on free ports, and not on 8080, 9090 and 9091.")
    ] = False,
    pid: Annotated[
        int | None, typer.Option("--pid", "-p", help="A catalog service that runs already; it is not restarted.")
    ] = None,
    container: Annotated[str | None, typer.Option(metavar="NAME", help="The same, in this container.")] = None,
    pod: Annotated[str | None, typer.Option(metavar="NS/NAME[/CONTAINER]", help="The same, in a pod here.")] = None,
    http: Annotated[str, typer.Option(metavar="ADDR:PORT", help="Where it answers.")] = "127.0.0.1:8080",
    metrics: Annotated[str, typer.Option(metavar="ADDR:PORT", help="Where its metrics are.")] = "127.0.0.1:9090",
    ledger: Annotated[str, typer.Option(metavar="URL", help="Where its ledger is.")] = DEFAULT_LEDGER,
    lang: Annotated[
        str | None, typer.Option(metavar="LANGUAGE", help="en or ko; as LC_ALL, LC_MESSAGES or LANG say otherwise.")
    ] = None,
) -> None:
    """Find the leak yourself: tasks with checks and hints, a fix, and its proof."""
    machine = Machine()
    messages = Messages(choose_language(lang, machine.environ))
    _check_together(context)
    wanted = speed if speed is not None else SOLVER_SPEED if solving else LEARNER_SPEED
    low, high, _ = RANGES["speed"]
    if not low <= wanted <= high:
        raise LabError(f"--speed is {wanted:g}: it must be from {low:g} to {high:g}", f"try --speed {LEARNER_SPEED:g}")
    require_machine(machine)
    user = choose_user(machine.environ, machine.euid)
    target = Target(pid, container, pod, ())
    is_elsewhere = any(name is not None for name in (pid, container, pod))
    if is_elsewhere:
        target.check(started_first={})
    with ExitStack() as stack:
        elsewhere = None
        if is_elsewhere:
            elsewhere = stack.enter_context(Elsewhere(target.find(), Addresses(http, metrics, ledger), target.words))
            speed = elsewhere.speed
        if solving and folder is None:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="memleak-lab-learn-")))
        else:
            apart = scenario if scenario == RANDOM or scenario in SCENARIOS.keys() - {CATALOG_CACHE} else ""
            place = _folder(folder or default_folder(os.environ, user, apart))
        if resume:
            state = _resumed(place, elsewhere, scenario if is_given(context, "scenario") else "")
        else:
            chosen = _choice(scenario, seed, difficulty)
            own = SOLVER_SPEED if solving else LEARNER_SPEED
            begun = State(chosen, speed or (own if chosen == CATALOG_CACHE else 1.0), elsewhere=is_elsewhere)
            state = _begin(place, begun, messages, new=new)
        case = _scenario_of(state.scenario)
        console = learner_console()
        if not case.source:
            ports = not (any_port or solving)
            bench = stack.enter_context(CatalogBench(state, place, user, fixed_ports=ports, elsewhere=elsewhere))
            session = Session(bench, lambda: FINDING if elsewhere else TASKS, messages, console)
            _go(session, solve_catalog if solving else None)
        else:
            console.print(messages("prompt.starting"))
            other = stack.enter_context(CaseBench(case, state, place, messages.language, settled=solving))
            _go(Session(other, lambda: tasks_of(case, state), messages, console), solve_case if solving else None)


def _go(session: Session[B], solver: Callable[[Session[B]], None] | None) -> None:
    """Let the learner do the tasks, or do them."""
    if solver is None:
        session.run()
        return
    solver(session)
    session.say("solve.done", "bold green", count=len(session.tasks))


def _choice(scenario: str, seed: int | None, difficulty: int | None) -> str:
    """What the state keeps of the scenario: its name, or for a random one only what it was drawn from."""
    if scenario != RANDOM:
        return scenario
    drawn = secrets.randbelow(SEEDS) if seed is None else seed
    return f"{RANDOM}:{drawn}:{difficulty or 0}"


def _check_together(context: typer.Context) -> None:
    """Raise a LabError for an unknown scenario, and for options that do nothing beside, or without, others."""
    scenario = context.params["scenario"]
    if scenario not in {RANDOM, *SCENARIOS}:
        raise LabError(
            f"--scenario is {scenario!r}: there are {', '.join(SCENARIOS)}", f"or a random one: --scenario {RANDOM}"
        )
    if context.params["resume"] and any(given_options(context, *NOT_RESUMED).values()):
        raise LabError("--resume goes on as it was begun", "leave --new, --solve, --speed, --seed and --difficulty out")
    target = next((name for name in ("pid", "container", "pod") if is_given(context, name)), "")
    if target:
        useless = given_options(context, "speed", "seed", "difficulty", "any_port")
        refuse_together(f"--{target}", True, {"--scenario": scenario != CATALOG_CACHE, **useless})
    drawn = given_options(context, "seed", "difficulty")
    remedy = DRAW_ONE if is_given(context, "scenario") else ADD_RANDOM
    refuse_without(f"--scenario {RANDOM}", scenario == RANDOM, drawn, remedy)
    addresses = given_options(context, "http", "metrics", "ledger")
    refuse_without("--pid, --container or --pod", target, addresses, NAME_ONE)


def _resumed(folder: Path, elsewhere: Elsewhere | None, named: str) -> State:
    """How far one has come, on the same kind of service: one that runs already is never started in its place.

    ``named``: the scenario that the command line names; "" for none. Of a random one the state says no more than that.
    """
    state = read_state(folder, len(TASKS), named)
    begun = state.scenario.partition(":")[0]
    if named and named != begun:
        raise LabError(
            f"what is in {folder} was begun with --scenario {begun}, not {named}", "leave --scenario out, or name that"
        )
    if elsewhere is None and state.elsewhere:
        raise LabError(
            f"what is in {folder} was begun on a service that ran already",
            "name it again: --pid, --container or --pod, with its --http, --metrics and --ledger; or begin anew: --new",
        )
    if elsewhere and (state.scenario != CATALOG_CACHE or state.fixed_from is not None):
        raise LabError(
            f"what is in {folder} was begun on a service that learn starts", "leave --pid, --container and --pod out"
        )
    if elsewhere:
        state.elsewhere, state.speed = True, elsewhere.speed
    return state


def _scenario_of(kept: str) -> Scenario:
    """The scenario that a state is of."""
    first, *drawn = kept.split(":")
    try:
        if first == RANDOM:
            seed, difficulty = map(int, drawn)
            return choose(seed, difficulty or None, own=True)
        return SCENARIOS[kept]
    except (KeyError, ValueError, IndexError) as error:
        raise LabError(
            f"the state is of {kept!r}, which is no scenario", "begin anew: memleak-lab learn --new"
        ) from error


def _folder(folder: Path) -> Path:
    """The folder of the learner's files, made where it is not there."""
    try:
        with as_owner(folder):
            folder.mkdir(parents=True, exist_ok=True)
            whole = folder.resolve()
    except OSError as error:
        raise LabError(f"--folder {folder}: {error.strerror}", "name another folder: --folder DIR") from error
    if not str(whole).isprintable():  # it becomes a part of lines to paste
        raise LabError(
            f"--folder {whole}: it has characters that cannot be printed", "name another folder: --folder DIR"
        )
    return whole


def _begin(folder: Path, state: State, messages: Messages, *, new: bool) -> State:
    """A new state; what an earlier one left is removed only where that was asked for."""
    with as_owner(folder):
        left = [folder / name for name in FILES if os.path.lexists(folder / name)]
        unfinished = [folder / f"{name}{UNFINISHED}" for name in FILES]
        if left and not new:
            raise LabError(
                messages("error.earlier", path=left[0]),
                messages("error.earlier_remedy", cli=own_command(), folder=quote(str(folder))),
            )
        for path in [*left, *filter(os.path.lexists, unfinished)]:
            try:
                if not path.is_symlink() and path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            except OSError as error:
                raise LabError(
                    f"{path} cannot be removed: {error.strerror}", "remove it, or name another folder"
                ) from error
    return state
