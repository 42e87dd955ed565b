from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.system.prometheus.story import played, why_not

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.prometheus.story import Story


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """The hour's story, run once: 75 seconds."""
    if reason := why_not():
        pytest.skip(reason)
    with played(tmp_path_factory.mktemp("story")) as story:
        yield story
