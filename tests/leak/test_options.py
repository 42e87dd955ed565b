from __future__ import annotations

import math
import re
from typing import Any

import pytest
from catalog_cache import MIB, Options

GIB = 1024 * MIB


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk_bytes": 3}, "chunk_bytes is 3: it must be from 4096 to 1048576 bytes"),
        ({"chunk_bytes": -65_536}, "chunk_bytes is -65536: it must be from 4096 to 1048576 bytes"),
        ({"chunk_bytes": 2 * MIB}, "chunk_bytes is 2097152: it must be from 4096 to 1048576 bytes"),
        ({"chunk_bytes": 5000}, "chunk_bytes is 5000: it must divide the 1048576 bytes of a refresh"),
        ({"refresh_bytes": 0}, "refresh_bytes is 0: it must be from 4096 to 67108864 bytes"),
        ({"refresh_bytes": 65 * MIB}, "refresh_bytes is 68157440: it must be from 4096 to 67108864 bytes"),
        ({"cap_bytes": -1}, "cap_bytes is -1: it must be from 0 to 68719476736 bytes"),
        ({"cap_bytes": 64 * GIB + 1}, "cap_bytes is 68719476737: it must be from 0 to 68719476736 bytes"),
        ({"period_seconds": 0}, "period_seconds is 0: it must be from 0.001 to 86400.0 seconds"),
        ({"period_seconds": math.inf}, "period_seconds is inf: it must be from 0.001 to 86400.0 seconds"),
        ({"start_delay_seconds": -0.1}, "start_delay_seconds is -0.1: it must be from 0 to 86400.0 seconds"),
        ({"start_delay_seconds": math.nan}, "start_delay_seconds is nan: it must be from 0 to 86400.0 seconds"),
        ({"speed": 0}, "speed is 0: it must be from 0.1 to 1000.0 times real time"),
        ({"speed": 1001}, "speed is 1001: it must be from 0.1 to 1000.0 times real time"),
    ],
)
def test_a_bad_option_is_named_with_its_value_and_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Options(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"chunk_bytes": 4096},
        {"chunk_bytes": MIB},
        {"chunk_bytes": 77_777, "refresh_bytes": 77_777},
        {"refresh_bytes": 64 * MIB},
        {"cap_bytes": 0},
        {"cap_bytes": 64 * GIB},
        {"period_seconds": 0.001, "start_delay_seconds": 0, "speed": 0.1},
        {"speed": 1000},
    ],
)
def test_options_at_the_edges_of_their_ranges(options: dict[str, Any]) -> None:
    made = Options(**options)
    assert {name: getattr(made, name) for name in options} == options


def test_the_defaults_are_the_labs_story() -> None:
    assert Options() == Options(
        chunk_bytes=65_536,
        refresh_bytes=MIB,
        period_seconds=8.0,
        cap_bytes=2000 * MIB,
        start_delay_seconds=30.0,
        speed=1.0,
    )
