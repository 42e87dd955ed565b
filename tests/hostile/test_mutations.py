"""Some of what `make fuzz` puts to the parser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from diagnosis.target.parser.client import Parser
from tests.hostile.mutants import elf_seeds
from tests.hostile.mutations import LONGEST_SECONDS, Fuzzer
from tests.hostile.running import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.hostile.mutations import Tally


@pytest.fixture
def parser() -> Iterator[Parser]:
    with Parser() as parser:
        yield parser


def last(tallies: Iterator[Tally]) -> Tally:
    *_, tally = tallies
    return tally


def test_mutated_files_are_answered_or_refused_and_the_next_one_too(parser: Parser, tmp_path: Path) -> None:
    tally = last(Fuzzer(parser, seed=3).elf_files(elf_seeds(tmp_path), 300))
    assert tally.mutants == 300
    assert tally.answers > 300
    assert tally.refusals > 10, "they were mutated"
    assert tally.largest < MAX_BYTES
    assert tally.slowest < LONGEST_SECONDS


def test_mutated_call_frames_become_rows_or_none(parser: Parser, tmp_path: Path) -> None:
    tally = last(Fuzzer(parser, seed=3).call_frames(elf_seeds(tmp_path), 300))
    assert (tally.mutants, tally.answers + tally.refusals) == (300, 300)


def test_mutated_perf_maps_are_answered(parser: Parser) -> None:
    tally = last(Fuzzer(parser, seed=3).perf_maps(200))
    assert (tally.mutants, tally.answers) == (200, 400)


def test_mutated_symbols_are_answered(parser: Parser) -> None:
    tally = last(Fuzzer(parser, seed=3).symbols(200))
    assert tally.answers + tally.deaths.total() == 200
    assert tally.largest < MAX_BYTES


def test_the_same_seed_makes_the_same_mutants(parser: Parser, tmp_path: Path) -> None:
    seeds = elf_seeds(tmp_path)
    one, other = (last(Fuzzer(parser, seed=4).elf_files(seeds, 40)) for _ in range(2))
    assert (one.answers, one.refusals, one.deaths) == (other.answers, other.refusals, other.deaths)
