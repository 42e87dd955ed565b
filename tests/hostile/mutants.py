"""What the parser is fed with: files, perf maps and symbols, changed at random."""

from __future__ import annotations

import struct
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from pathlib import Path

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
