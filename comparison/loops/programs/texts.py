"""Python at work in its own and in its C modules, which keeps texts that it needs no more.

Prints "ready" and waits for a line; then works, prints its processor time in seconds and the bytes of memory that it
keeps on purpose, and waits for another line.
"""

import json
import re
import sys
import time
import zlib

ROUNDS, KEPT, CHARACTERS = 2_000, 1_000, 2_000
kept: list[str] = []


def say(line: str) -> None:
    """A line, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def keep_text(number: int) -> None:
    """Keep a text of its own block of memory."""
    kept.append(chr(97 + number % 26) * CHARACTERS)


def work(number: int) -> None:
    """Take memory and give it back."""
    json.loads(json.dumps({"k": list(range(number % 50)), "s": "y" * 600}))
    re.compile(f"a{number}(b|c)*[d-z]+").match("a1bcbcd")
    zlib.decompress(zlib.compress(b"q" * 3000))


work(0)
say("ready")
sys.stdin.readline()
began = time.process_time()
for i in range(ROUNDS):
    work(i)
    if i % (ROUNDS // KEPT) == 0:
        keep_text(i)
say(f"{time.process_time() - began} {sum(sys.getsizeof(text) for text in kept)}")
sys.stdin.readline()
