"""`learn --solve` does every scenario with the commands of the hints, half of them in each language.

The other half's turn is in tests/system.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from diagnosis.learn.scenarios import SCENARIOS
from tests.support.solving import LIMIT_SECONDS, check_solved, languages_by_turns, solving

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future

    from tests.support.solving import Solved

LANGUAGE = languages_by_turns(1)

pytestmark = [pytest.mark.ebpf, pytest.mark.timeout(2 * LIMIT_SECONDS)]


@pytest.fixture(scope="module")
def solved(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[Solved]]]:
    with solving(request, LANGUAGE) as under_way:
        yield under_way


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_is_solved_with_the_commands_of_its_hints(solved: Mapping[str, Future[Solved]], name: str) -> None:
    check_solved(name, LANGUAGE[name], solved[name].result())
