"""Files, perf maps and symbols, changed at random: ``python -m tests.hostile.mutations`` puts them to the parser.

The same seed makes the same mutants. Each is asked every question that the tracer asks. The parser may refuse, and it
may die; the next mutant has to be answered all the same, within its time and its memory.
"""

from __future__ import annotations

import argparse
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from diagnosis.base.text import safe_text
from diagnosis.target.parser.answers import names_of, object_of, places_of, unwind_facts_of
from diagnosis.target.parser.client import Budget, Parser, ParserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1 << 20
MAX_BYTES = 500 * MIB
LONGEST_SECONDS = 30.0

SOURCE = """
#include <stdlib.h>
struct shelf { int count; int *items; };
static inline int twice(int number) { return 2 * number; }
static inline void put(struct shelf *shelf, int item)
{
	shelf->items = realloc(shelf->items, twice(shelf->count + 1) * sizeof item);
	shelf->items[shelf->count++] = item;
}
void *malloc_twice(int size) { return malloc(twice(size)); }
int fill(int count) { struct shelf shelf = {0}; while (count--) put(&shelf, count); return shelf.count; }
"""
SYMBOLS = (
    "_ZNSt6vectorIiSaIiEE9push_backERKi",
    "_ZN5store5ShelfIiE3putEi",
    "_RNvC6_123foo3bar",
    "_RINvNtC3std3mem8align_ofNtNtC3std3mem12DiscriminantE",
    "_Z1fIJiiiEEvDpT_",
    "_ZNKSt8functionIFvvEEclEv",
    "_Z4waitIZ4mainEUlvE_EvT_",
    "main",
)
PERF_MAP = "".join(
    f"{0x7F0000000000 + 64 * line:x} 40 LazyCompile:~fill{line} /srv/app.js:{line}\n" for line in range(40)
)

NUMBERS = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    1 << 31,
    (1 << 32) - 1,
    1 << 40,
    1 << 62,
    (1 << 63) - 1,
    (1 << 64) - 1,
)


def mutate(content: bytes, rng: random.Random) -> bytes:
    """One to eight changes: bits, bytes, numbers at the border of their size, pieces that move, an end that is gone."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        if not found:
            break
        at = rng.randrange(len(found))
        match rng.randrange(7):
            case 0:
                found[at] ^= 1 << rng.randrange(8)
            case 1:
                found[at] = rng.randrange(256)
            case 2 | 3:
                width = rng.choice("BHIQ")
                number = rng.choice(NUMBERS) & ((1 << 8 * struct.calcsize(width)) - 1)
                piece = struct.pack(f"<{width}", number)
                found[at : at + len(piece)] = piece
            case 4:
                size = rng.randrange(1, 65)
                found[at : at + size] = found[(start := rng.randrange(len(found))) : start + size]
            case 5:
                size = rng.randrange(1, 257)
                found[at : at + size] = bytes(rng.choice((0, 0xFF)) for _ in range(1)) * size
            case 6:
                del found[at if rng.random() < 0.2 else len(found) - rng.randrange(1, 64) :]
    return bytes(found)


def in_headers(content: bytes, rng: random.Random) -> bytes:
    """A number of the header, or of the tables of sections and segments, that is another one."""
    found = bytearray(content)
    table = struct.unpack_from("<Q", content, 40)[0]
    start, size = rng.choice(((0, 64), (64, 56 * 10), (table, len(content) - table)))
    width = rng.choice("HIQQ")
    at = start + rng.randrange(max(1, size // 4)) * 4
    number = rng.choice((*NUMBERS, len(content), table, rng.randrange(1 << 20)))
    if at + 8 <= len(found):
        struct.pack_into(f"<{width}", found, at, number & ((1 << 8 * struct.calcsize(width)) - 1))
    return bytes(found)


def elf_seeds(folder: Path) -> list[bytes]:
    """Libraries as compilers make them: with debug information of two versions, compressed, stripped."""
    source = folder / "seed.c"
    source.write_text(SOURCE)
    seeds = []
    for number, flags in enumerate(
        (["-g"], ["-gdwarf-4"], ["-g", "-gz=zlib"], ["-s"], ["-g", "-Wl,--hash-style=sysv"])
    ):
        output = folder / f"seed{number}.so"
        command = ["cc", "-O2", "-shared", "-fPIC", *flags, str(source), "-o", str(output)]
        subprocess.run(command, check=True)
        seeds.append(output.read_bytes())
    return seeds


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


class Fuzzer:
    """Puts mutants to one parser.

    Args:
        parser: is asked.
        seed: of the random numbers.
    """

    def __init__(self, parser: Parser, seed: int) -> None:
        self._parser, self._rng, self._budget = parser, random.Random(seed), Budget(deaths=1 << 60, seconds=1e12)

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
        tally.ask(lambda: unwind_facts_of(ask("cfi", files=files, budget=budget)))

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
