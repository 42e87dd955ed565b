"""What `memleak-lab trace` says of each scenario, as it is shipped and fixed, beside the scenario's own ledger."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from diagnosis.learn.scenarios import SCENARIOS, apply_fix, copy_sources, start
from tests.scenarios.traced import WINDOW, Command, Traced, served, trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diagnosis.learn.scenarios import Scenario

# What fills a cache within seconds at its own pace has filled it sooner.
SPEED = {"warm-cache": 4.0}
OWN = [scenario for scenario in SCENARIOS.values() if scenario.source]
MIB = 1 << 20

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
    held: int
    pid: int
    pids: tuple[int, ...]


@pytest.fixture(scope="module", params=OWN, ids=lambda scenario: scenario.name)
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    scenario: Scenario = request.param
    folder = tmp_path_factory.mktemp("seen")
    speed = SPEED.get(scenario.name, 1.0)
    with ExitStack() as stack:
        running = stack.enter_context(start(scenario, folder / "shipped", speed))
        running.settle()
        commands = [stack.enter_context(closing(trace(running.pid, stack.enter_context(served(running)))))]
        if scenario.fix:
            sources = copy_sources(scenario, folder / "sources").parent
            apply_fix(scenario, sources)
            fixed = stack.enter_context(start(scenario, folder / "fixed", speed, sources, pods=1))
            fixed.settle()
            commands.append(stack.enter_context(closing(trace(fixed.pid, stack.enter_context(served(fixed))))))
        watching = None
        if len(running.pids) > 1:
            watching = stack.enter_context(closing(Command("watch", *WINDOW, "--top", "100")))
        reports = [Traced(command.result()) for command in commands]
        yield Seen(
            scenario,
            reports[0],
            reports[1] if scenario.fix else None,
            watching.result() if watching else None,
            running.ledger().held,
            running.pid,
            running.pids,
        )


def test_the_verdict_is_the_scenarios(seen: Seen) -> None:
    verdict, scenario = seen.shipped.verdict, seen.scenario
    assert (verdict["answer"], verdict["function"]) == (scenario.answer, scenario.function), verdict["summary"]
    if scenario.caller:
        assert verdict["caller"] == scenario.caller


def test_what_leaked_is_what_the_ledger_counted(seen: Seen) -> None:
    leaked, blocks = seen.shipped.leaked
    taken, kept = seen.shipped.taken_by(seen.scenario.function)
    match seen.scenario.name:
        case "warm-cache" | "fragmentation":
            assert (leaked, blocks) == (0, 0)
        case "append-only-index":
            # Lists from before the window moved in it: of those the trace has the whole new size.
            assert 0 < leaked <= taken <= seen.held
        case "unjoined-threads":
            assert kept == blocks  # the C library takes one block for each thread
            assert 0 < seen.shipped.part("stacks") < leaked
        case "shared-memory":
            assert seen.shipped.part("shared") == pytest.approx(leaked, rel=MOMENT)
        case _:
            assert (taken, kept) == (leaked, blocks)
            assert blocks > 0


def test_memory_that_malloc_keeps_grew_all_the_same(seen: Seen) -> None:
    if seen.scenario.kind != "allocator":
        pytest.skip("it is not the allocator that keeps it")
    assert seen.shipped.part("retained") > 5 * MIB


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
