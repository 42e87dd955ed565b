"""A real program under a fixed load: SQLite in memory, filled, queried and emptied.

Prints "ready" and waits for a line; then works, prints its processor time in seconds and 0, the bytes it keeps on
purpose, and waits for another line.
"""

import sqlite3
import sys
import time

ROWS = 40_000


def say(line: str) -> None:
    """A line, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


say("ready")
sys.stdin.readline()
began = time.process_time()
database = sqlite3.connect(":memory:")
database.execute("create table items (id integer primary key, name text, price integer)")
with database:
    database.executemany(
        "insert into items (name, price) values (?, ?)", ((f"item {i}", i * 7919 % 20_000) for i in range(ROWS))
    )
for low in range(0, 20_000, 100):
    database.execute("select name from items where price between ? and ? order by name", (low, low + 99)).fetchall()
database.close()
say(f"{time.process_time() - began} 0")
sys.stdin.readline()
