"""Files, perf maps and symbols, changed at random: ``python -m tests.hostile.mutations`` puts them to the parser.

The same seed makes the same mutants. Each is asked every question that the tracer asks. The parser may refuse, and it
may die; the next mutant has to be answered all the same, within its time and its memory.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from heap_trace import TraceError
from heap_trace.unwind import Capacity, Module, ObjectRows, UnwindTables

from diagnosis.base.text import safe_text
from diagnosis.target.parser.answers import names_of, object_of, places_of, probes_of, symbols_of, unwind_rows_of
from diagnosis.target.parser.client import Budget, Parser, ParserError
from diagnosis.target.parser.facts import Wanted
from tests.hostile.mutants import NUMBERS, PERF_MAP, SYMBOLS, elf_seeds, in_headers, mutate
from tests.hostile.running import MAX_BYTES, MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONGEST_SECONDS = 30.0


@dataclass
class Tally:
    """What came of the mutants."""

    parser: Parser
    mutants: int = 0
    answers: int = 0
    refusals: int = 0
    deaths: Counter[str] = field(default_factory=Counter)
    largest: int = 0
    slowest: float = 0.0

    def ask(self, question: Callable[[], object]) -> None:
        """Put one question, and note how it ended."""
        began = time.monotonic()
        try:
            question()
            self.answers += 1
        except ParserError as error:
            if error.lost:
                self.deaths[safe_text(str(error))] += 1
            else:
                self.refusals += 1
        self.slowest = max(self.slowest, time.monotonic() - began)

    def end(self) -> None:
        """Note the end of a mutant."""
        self.mutants += 1
        self.largest = max(self.largest, peak(self.parser))

    def __str__(self) -> str:
        deaths = (
            ", ".join(f"{reason} {count:,} times" for reason, count in self.deaths.most_common()) or "it never died"
        )
        return (
            f"{self.mutants:,} mutants: {self.answers:,} answers, {self.refusals:,} refusals;"
            f" {deaths or 'it never died'}; slowest {self.slowest:.1f} s, largest {self.largest / MIB:.0f} MiB"
        )


def peak(parser: Parser) -> int:
    """Bytes that the parser has had in memory at most; 0 where it does not run."""
    process = parser._process
    try:
        text = Path(f"/proc/{process.pid}/status").read_text() if process else ""
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmHWM")), 0)


def look_up(rows: ObjectRows, address: int) -> None:
    """Put rows into a table of a process, as a trace does, and find an address in both."""
    tables = UnwindTables.private(Capacity(rows=1 << 12, chunks=1 << 12, rules=1 << 8))
    where = tables.add(rows)
    if where:
        tables.set_modules([Module(0, 1 << 32, table=where)])
        assert tables.find(address) == rows.find(address)


class Fuzzer:
    """Puts mutants to one parser.

    Args:
        parser: is asked.
        seed: of the random numbers.
    """

    def __init__(self, parser: Parser, seed: int) -> None:
        self._parser, self._rng, self._budget = parser, random.Random(seed), Budget(1 << 60, 1e12, 1e12)

    def elf_files(self, seeds: list[bytes], count: int) -> Iterator[Tally]:
        """Mutated ELF files; the tally after each."""
        tally = Tally(self._parser)
        for number in range(count):
            seed = self._rng.choice(seeds)
            content = (in_headers if number % 2 else mutate)(seed, self._rng)
            descriptor = os.memfd_create("mutant")
            try:
                os.write(descriptor, content)
                self._ask_all(tally, number, descriptor)
            finally:
                os.close(descriptor)
            tally.end()
            yield tally

    def _ask_all(self, tally: Tally, number: int, descriptor: int) -> None:
        files, budget, ask = [descriptor], self._budget, self._parser.ask
        facts = {"table": self._rng.choice((".dynsym", ".symtab")), "names": None}
        tally.ask(lambda: object_of(ask("facts", facts, files=files, budget=budget)))
        tally.ask(lambda: ask("defines", {"names": ["fill", "malloc_twice"]}, files=files, budget=budget))
        kind = self._rng.choice(("debug", "debug", "debug", "symbols"))
        tally.ask(lambda: ask("open", {"id": number, "kind": kind}, files=files, budget=budget))
        addresses = [0x1100, 0x1150, 0x11C0, self._rng.randrange(1 << 13)]
        lookup = {"id": number, "addresses": addresses}
        tally.ask(lambda: places_of(ask("lookup", lookup, budget=budget), len(addresses)))
        tally.ask(lambda: unwind_rows_of(ask("cfi", files=files, budget=budget)))
        tables = {"names": ["fill", "malloc_twice"], "ends": ["lloc"], "variables": ["environ"]}
        tally.ask(lambda: symbols_of(ask("symbols", tables, files=files, budget=budget)))
        functions = [
            Wanted(
                name,
                address,
                self._rng.choice((0, 32, 1 << 40)),
                1,
                frees=False,
                throws=bool(throws),
                may_delegate=True,
            )
            for throws, (name, address) in enumerate((("fill", 0x1150), ("malloc_twice", self._rng.randrange(1 << 13))))
        ]
        probes = {"functions": [asdict(each) for each in functions], "known": {"malloc": False}, "at_entry": False}
        tally.ask(lambda: probes_of(ask("probes", probes, files=files, budget=budget), len(functions)))

    def call_frames(self, seeds: list[bytes], count: int) -> Iterator[Tally]:
        """Mutated unwind rows, the one answer that the tracer reads with C, put into a table; the tally after each."""
        tally = Tally(self._parser)
        answers = []
        for seed in seeds:
            descriptor = os.memfd_create("seed")
            os.write(descriptor, seed)
            answers.append(self._parser.ask("cfi", files=[descriptor], budget=self._budget))
            os.close(descriptor)
        for _ in range(count):
            answer = self._rng.choice(answers)
            number = self._rng.choice((answer.fields["rows"],) * 8 + NUMBERS)
            try:
                rows = ObjectRows.unpack(mutate(answer.payload, self._rng), number % (1 << 63))
                look_up(rows, self._rng.randrange(1 << 32))
                tally.answers += 1
            except TraceError:
                tally.refusals += 1
            tally.end()
            yield tally

    def perf_maps(self, count: int) -> Iterator[Tally]:
        """Mutated perf maps; the tally after each."""
        tally = Tally(self._parser)
        for number in range(count):
            descriptor = os.memfd_create("map")
            try:
                os.write(descriptor, mutate(PERF_MAP.encode(), self._rng))
                opening = {"id": number, "kind": "perf map"}
                tally.ask(lambda: self._parser.ask("open", opening, files=[descriptor], budget=self._budget))  # noqa: B023
            finally:
                os.close(descriptor)
            lookup = {"id": number, "addresses": [0x7F0000000000, 0x7F0000000041, self._rng.randrange(1 << 64)]}
            tally.ask(lambda: places_of(self._parser.ask("lookup", lookup, budget=self._budget), 3))  # noqa: B023
            tally.end()
            yield tally

    def symbols(self, count: int) -> Iterator[Tally]:
        """Mutated symbols of C++ and Rust; the tally after each."""
        tally = Tally(self._parser)
        for _ in range(count):
            symbol = mutate(self._rng.choice(SYMBOLS).encode() * self._rng.choice((1, 1, 1, 50)), self._rng)
            text = symbol.decode(errors="replace")
            asked = {"symbols": [text, "_Z" + text]}
            tally.ask(lambda: names_of(self._parser.ask("demangle", asked, budget=self._budget), 2))  # noqa: B023
            tally.end()
            yield tally


def main() -> None:
    """Run, and print a line for each kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--maps", type=int, default=10_000, help="perf maps, and as many symbols")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with Parser() as sandbox, tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(sandbox, options.seed)
        kinds = {
            "ELF files": fuzzer.elf_files(elf_seeds(Path(folder)), options.files),
            "call frames": fuzzer.call_frames(elf_seeds(Path(folder)), options.maps),
            "perf maps": fuzzer.perf_maps(options.maps),
            "symbols": fuzzer.symbols(options.maps),
        }
        for name, tallies in kinds.items():
            tally = Tally(sandbox)
            began = time.monotonic()
            for tally in tallies:
                if tally.mutants % 10_000 == 0:
                    sys.stdout.write(f"{name} so far: {tally}\n")
                    sys.stdout.flush()
            sys.stdout.write(f"{name}: {tally}; {time.monotonic() - began:,.0f} s\n")
            if tally.largest > MAX_BYTES or tally.slowest > LONGEST_SECONDS:
                sys.exit(f"{name}: the parser took more than it may")


if __name__ == "__main__":
    main()
