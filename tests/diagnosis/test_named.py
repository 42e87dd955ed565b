"""One process of several: what it holds, by thirds of its own time where it came later."""

from __future__ import annotations

from typing import Any

import pytest

from diagnosis.trace.named import NAMELESS, NamedStacks, NamedTracer, merge_survivors
from diagnosis.trace.snapshot import Snapshot, Survivors

BEGAN = Snapshot(100.0, {})


class Tracer:
    """Took a block a second from 90 s to 130 s, and keeps them."""

    def survivors(self, since: Snapshot) -> dict[int, Survivors]:
        blocks = round(130 - since.seconds)
        return {7: Survivors(blocks, blocks, blocks, (blocks // 3,) * 3, (blocks // 3,) * 3)}

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return lambda _: (7,) if name == "frames" else None


class Symbolizer:
    def locate(self, addresses: tuple[int, ...]) -> tuple[int, ...]:
        return addresses

    def symbolize(self, *stack: object) -> object:
        return stack


def named(since: float) -> NamedTracer:
    tracer: Any = Tracer()
    symbolizer: Any = Symbolizer()
    return NamedTracer(tracer, symbolizer, NamedStacks(), since)


@pytest.mark.parametrize(
    ("since", "blocks", "fresh"), [(0.0, 30, (0, 0, 0)), (100.0, 30, (0, 0, 0)), (118, 12, (4,) * 3)]
)
def test_what_one_that_came_later_holds_is_told_by_thirds_of_its_own_time(
    since: float, blocks: int, fresh: tuple[int, ...]
) -> None:
    (found,) = named(since).survivors(BEGAN).values()
    assert (found.bytes, found.fresh_bytes) == (blocks, fresh)


def test_stacks_beyond_the_limit_are_one_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diagnosis.trace.named.MAX_NAMED", 3)
    symbolizer: Any = Symbolizer()
    names = NamedStacks()
    numbers = [names.number_in(symbolizer, (address,)) for address in range(1, 9)]
    assert numbers == [1, 2, 3, 4, 4, 4, 4, 4]
    assert names.stack(4) == NAMELESS
    assert names.untold == 5
    assert names.number_in(symbolizer, (2,)) == 2, "those before keep their names"
    assert len(names._located) == 3


def test_fresh_bytes_of_several_add_up() -> None:
    (found,) = merge_survivors(named(since).survivors(BEGAN) for since in (0.0, 118.0, 124.0)).values()
    assert (found.bytes, found.third_bytes, found.fresh_bytes) == (48, (16, 16, 16), (6, 6, 6))
