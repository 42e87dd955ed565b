"""What `memleak-lab trace` says of each scenario, as it is shipped and fixed, beside the scenario's own ledger."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from diagnosis.learn.scenarios import SCENARIOS, SOURCES, Scenario, apply_fix, copy_sources, read_sources, start
from tests.scenarios.traced import WINDOW, Command, Traced, served, trace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

# What fills a cache within seconds at its own pace has filled it sooner.
SPEED = {"warm-cache": 4.0}
OWN = [scenario for scenario in SCENARIOS.values() if scenario.source]
MIB = 1 << 20

# Of the search: in so many the newest versions begin or end.
SEGMENTS = 3

# The account of memory is read a moment before or after the calls: of slow growth, a second's worth.
MOMENT = 1 / 6

pytestmark = pytest.mark.ebpf


@dataclass(frozen=True)
class Seen:
    """A scenario and its fixed version, traced at the same time."""

    scenario: Scenario
    shipped: Traced
    fixed: Traced | None
    watched: dict[str, Any] | None
    pid: int
    pids: tuple[int, ...]


def look(scenario: Scenario, folder: Path) -> Seen:
    """Trace the scenario as it is shipped and fixed; watch it, where it is several services."""
    speed = SPEED.get(scenario.name, 1.0)
    with ExitStack() as stack:
        running = stack.enter_context(start(scenario, folder / "shipped", speed))
        running.settle()
        shipped = stack.enter_context(closing(trace(running.pid, stack.enter_context(served(running)))))
        fixed = watching = None
        if scenario.fix:
            sources = copy_sources(scenario, folder / "sources").parent
            apply_fix(scenario, sources)
            cured = stack.enter_context(
                start(scenario, folder / "fixed", speed, read_sources(scenario, sources), pods=1)
            )
            cured.settle()
            fixed = stack.enter_context(closing(trace(cured.pid, stack.enter_context(served(cured)))))
        if len(running.pids) > 1:
            watching = stack.enter_context(closing(Command("watch", *WINDOW, "--top", "100")))
        return Seen(
            scenario,
            shipped=Traced(shipped.result()),
            fixed=Traced(fixed.result()) if fixed else None,
            watched=watching.result() if watching else None,
            pid=running.pid,
            pids=running.pids,
        )


@pytest.fixture(scope="module")
def looks(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Seen]]]:
    """Every scenario that a test asks for, two at a time: a window is mostly waiting."""
    functions = [item for item in request.session.items if isinstance(item, pytest.Function)]
    params = [item.callspec.params["seen"] for item in functions if "looks" in item.fixturenames]
    asked = [param for param in params if isinstance(param, Scenario)]
    with ThreadPoolExecutor(2) as pool:
        yield {
            scenario.name: pool.submit(look, scenario, tmp_path_factory.mktemp("seen"))
            for scenario in dict.fromkeys(asked)
        }
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module", params=OWN, ids=lambda scenario: scenario.name)
def seen(request: pytest.FixtureRequest, looks: dict[str, Future[Seen]]) -> Seen:
    return looks[request.param.name].result()


def test_the_verdict_is_the_scenarios(seen: Seen) -> None:
    verdict, scenario = seen.shipped.verdict, seen.scenario
    assert (verdict["answer"], verdict["function"]) == (scenario.answer, scenario.function), verdict["summary"]
    if scenario.caller:
        assert verdict["caller"] == scenario.caller


def test_what_leaked_is_what_the_ledger_counted(seen: Seen) -> None:
    leaked, blocks = seen.shipped.leaked
    taken, kept = seen.shipped.taken_by(seen.scenario.function)
    match seen.scenario.name:
        case "warm-cache":
            assert (leaked, blocks) == (0, 0)
        case "fragmentation":
            assert (leaked, blocks) == (0, 0)
            assert seen.shipped.part("retained") > 5 * MIB  # it grows all the same
        case "append-only-index":
            # A segment is lost some time after it was taken, when the last of it is superseded.
            assert kept == pytest.approx(blocks, abs=SEGMENTS)
            assert taken == pytest.approx(leaked, abs=SEGMENTS * leaked / blocks)
        case "unjoined-threads":
            assert kept == blocks  # the C library takes one block for each thread
            assert 0 < seen.shipped.part("stacks") < leaked
        case "shared-memory":
            assert seen.shipped.part("shared") == pytest.approx(leaked, rel=MOMENT)
        case _:
            assert (taken, kept) == (leaked, blocks)
            assert blocks > 0


def test_the_place_is_a_line_of_the_source(seen: Seen) -> None:
    """The one that a learner edits: by its path. Shared memory is in the account of memory, and has no stacks."""
    if not seen.scenario.function or seen.scenario.kind == "shared":
        return
    frames = [frame for stack in seen.shipped.report["stacks"] for frame in stack["frames"]]
    places = {(frame["file"], frame["line"]) for frame in frames if frame["function"] == seen.scenario.function}
    source = SOURCES / seen.scenario.source
    assert {file for file, _ in places} == {str(source)}
    lines = source.read_text().splitlines()
    assert all(re.search(r"malloc|realloc|New|create|mmap", lines[line - 1]) for _, line in places), places


def test_the_stack_leads_on_to_python(seen: Seen) -> None:
    if not seen.scenario.source.startswith("quotes"):
        return
    stack = next(stack for stack in seen.shipped.report["stacks"] if stack["outstanding_bytes"] > MIB)
    names = [frame["function"] for frame in stack["frames"] if frame["python"]]
    assert names == ["follow_share", "follow_market", "main", "<module>"]


def test_the_fixed_one_does_not_leak(seen: Seen) -> None:
    if seen.fixed is None:
        assert seen.scenario.answer == "no leak"
        return
    assert seen.fixed.verdict["answer"] == "no leak", seen.fixed.verdict["summary"]
    assert seen.fixed.leaked == (0, 0)


def test_watch_finds_the_one_of_several_that_grows(seen: Seen) -> None:
    if seen.watched is None:
        assert seen.scenario.kind != "pods"
        return
    growing = {grower["pid"] for grower in seen.watched["growers"]}
    assert growing & set(seen.pids) == {seen.pid}
