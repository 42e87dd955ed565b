"""`make bench-service`: the service under load and beside hostile clients, as tables and as JSON.

The client is a few lines over asyncio's streams on purpose: httpx takes longer over a request than the service does, so
with both on the same machine it would be httpx that is measured. A request is a constant and of a response only the
length is read. Each connection asks again as soon as it is answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from comparison.loops.hostile import attack_table, measure_attacks
from comparison.loops.running import (
    END_OF_DEGRADED_BYTES,
    describe,
    machine,
    running_service,
    until_degraded,
    write_between_marks,
)

CONNECTIONS = 16
WARM_UP_REQUESTS = 3


@dataclass(frozen=True)
class Measurement:
    """What clients saw of one path. Latencies in milliseconds, from a request's first byte to a response's last."""

    name: str
    connections: int
    requests: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float


class Connection:
    """One connection that is kept alive."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, address: str) -> Connection:
        """Connect to ``HOST:PORT``."""
        host, _, port = address.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    async def get(self, path: str) -> bytes:
        """The body of the response.

        Raises:
            RuntimeError: the status is not 200.
        """
        self._writer.write(b"GET %b HTTP/1.1\r\nHost: bench\r\n\r\n" % path.encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"{path} was answered with {head.splitlines()[0].decode()}")
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
        return await self._reader.readexactly(int(length))

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


async def measure(name: str, address: str, path: str, seconds: float, connections: int = CONNECTIONS) -> Measurement:
    """Load one path for so many seconds. Where the path has a ``*``, every request asks for another item."""
    latencies: list[float] = []

    async def warm_up() -> Connection:
        connection = await Connection.open(address)
        for number in range(WARM_UP_REQUESTS):
            await connection.get(path.replace("*", str(number)))
        return connection

    async def client(number: int, connection: Connection) -> None:
        item = number
        while (began := time.perf_counter()) < deadline:
            item = (item + 7_919) % 1_000_000
            await connection.get(path.replace("*", str(item)))
            latencies.append(time.perf_counter() - began)
        connection.close()

    opened = await asyncio.gather(*(warm_up() for _ in range(connections)))
    started = time.perf_counter()
    deadline = started + seconds
    await asyncio.gather(*(client(number, connection) for number, connection in enumerate(opened)))
    elapsed = time.perf_counter() - started
    percentiles = statistics.quantiles(latencies, n=100)
    return Measurement(
        name=name,
        connections=connections,
        requests=len(latencies),
        requests_per_second=round(len(latencies) / elapsed, 1),
        p50_ms=round(percentiles[49] * 1000, 3),
        p99_ms=round(percentiles[98] * 1000, 3),
    )


async def measure_beside(
    other: tuple[str, str, str], name: str, address: str, path: str, seconds: float
) -> list[Measurement]:
    """Load one path on one connection while all the others load another."""
    return list(
        await asyncio.gather(
            measure(*other, seconds=seconds), measure(name, address, path, seconds=seconds, connections=1)
        )
    )


async def run(seconds: float) -> list[Measurement]:
    """Measure the first phase, then the end of the degraded phase."""
    found = []
    with running_service() as service:
        found.append(await measure("/health", service["http"], "/health", seconds))
        found.append(await measure("/api/items, first phase", service["http"], "/api/items/*", seconds))
        found.append(await measure("/metrics", service["metrics"], "/metrics", seconds))
    with running_service(LAB_SPEED="1000", LAB_CAP_BYTES=str(END_OF_DEGRADED_BYTES)) as service:
        until_degraded(service["ledger"])
        found.append(await measure("/api/items, degraded", service["http"], "/api/items/*", seconds, connections=1))
        burst = ("/api/items, degraded", service["http"], "/api/items/*")
        found += await measure_beside(burst, "/health beside that", service["http"], "/health", seconds)
    return found


def table(found: list[Measurement]) -> str:
    """One row for each measurement, in Markdown."""
    lines = ["| path | connections | requests/s | p50 ms | p99 ms |", "|---|---:|---:|---:|---:|"]
    lines += [
        f"| {each.name} | {each.connections} | {each.requests_per_second:,.0f} "
        f"| {each.p50_ms:.2f} | {each.p99_ms:.2f} |"
        for each in found
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The service under load and beside hostile clients.")
    parser.add_argument("--seconds", type=float, default=6.0, help="how long each path is loaded (default: 6)")
    parser.add_argument("--json", action="store_true", help="print the JSON line only")
    parser.add_argument(
        "--document", type=Path, help="write the table of hostile clients into this file, between its marks, as well"
    )
    options = parser.parse_args()
    if not 2 <= options.seconds <= 600:
        parser.error(f"--seconds is {options.seconds:g}: it must be from 2 to 600")

    where = machine()
    found = asyncio.run(run(options.seconds))
    attacks = measure_attacks(options.seconds)
    hostile = f"{describe(where)}\n\n{attack_table(attacks)}"
    if not options.json:
        sys.stdout.write(f"{describe(where)}\n\n{table(found)}\n\n{attack_table(attacks)}\n\n")
    if options.document:
        write_between_marks(options.document, hostile)
    sys.stdout.write(
        json.dumps(
            {
                "machine": where,
                "measurements": [asdict(each) for each in found],
                "attacks": [asdict(each) for each in attacks],
            }
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
