"""How long /health takes beside each hostile client, and at the same time at a service that is not attacked.

Probes ask as a kubelet does: on a connection of their own. One process asks both services in turn, so that a core that
is busy delays both.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from comparison.loops.running import END_OF_DEGRADED_BYTES, ROOT, fetch, running_service, until_degraded

if TYPE_CHECKING:
    from collections.abc import Callable

PROBE: Final = b"GET /health HTTP/1.1\r\nHost: catalog\r\nConnection: close\r\n\r\n"
PROBE_SECONDS: Final = 1.0  # what a kubelet allows by default
PAUSE_SECONDS: Final = 0.01
DEGRADED: Final = {"LAB_SPEED": "1000", "LAB_CAP_BYTES": str(END_OF_DEGRADED_BYTES)}
FEW_FILES: Final = ("prlimit", "--nofile=256:256")


@dataclass(frozen=True)
class Scenario:
    """An attack of attacks.py on a listener of the service, which runs under ``wrapper`` with ``variables``."""

    name: str
    attack: str
    listener: str = "http"
    wrapper: tuple[str, ...] = ()
    degraded: bool = False
    seconds: float | None = None


SCENARIOS: Final = (
    Scenario("200 clients that pipeline and do not read", "pipelining"),
    *(Scenario(f"connections, reset at once: {port}", "flood", port) for port in ("http", "metrics", "ledger")),
    *(Scenario(f"requests, reset at once: {port}", "asking_flood", port) for port in ("http", "metrics", "ledger")),
    Scenario("10,000 connections in ten seconds", "crowd", seconds=10.0),
    Scenario("600 connections, 256 descriptors", "idle", wrapper=FEW_FILES),
    Scenario("10,000 connections in ten seconds, 256 descriptors", "crowd", wrapper=FEW_FILES, seconds=10.0),
    Scenario("lookups whose clients hang up", "hang_up", degraded=True),
)


@dataclass(frozen=True)
class AttackMeasurement:
    """Probes beside one attack: how many, how many were not answered with 200 in a second, and ms of the others."""

    name: str
    made: int
    probes: int
    failed: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    control_p99_ms: float
    control_max_ms: float


def measure_attacks(seconds: float) -> list[AttackMeasurement]:
    """Every scenario, for ``seconds`` where it has no time of its own."""
    return [_measure(each, each.seconds or seconds) for each in SCENARIOS]


def attack_table(found: list[AttackMeasurement]) -> str:
    """One row for each attack, in Markdown."""
    lines = [
        "| beside | it made | probes | failed | p50 ms | p99 ms | max ms | not attacked: p99 ms | max ms |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {each.name} | {each.made:,} | {each.probes} | {each.failed} | {each.p50_ms:.1f} | {each.p99_ms:.1f} "
        f"| {each.max_ms:.1f} | {each.control_p99_ms:.1f} | {each.control_max_ms:.1f} |"
        for each in found
    ]
    return "\n".join(lines)


def _measure(scenario: Scenario, seconds: float) -> AttackMeasurement:
    variables = DEGRADED if scenario.degraded else {}
    with running_service() as control, running_service(*scenario.wrapper, **variables) as service:
        if scenario.degraded:
            until_degraded(service["ledger"])
            fetch(service["http"], "/api/items/1")  # from here on the service knows that lookups are long
        port = service[scenario.listener].rpartition(":")[2]
        with subprocess.Popen(
            [sys.executable, "-m", "comparison.loops.attacks", scenario.attack, port, str(seconds)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        ) as attacker:
            if attacker.stdout is None or attacker.stdout.readline() != "begun\n":
                raise RuntimeError(f"the attack did not begin: {scenario.name}")
            attacked, beside = _probe_both(service["http"], control["http"], lambda: attacker.poll() is None)
            made = json.loads(attacker.stdout.read())
    times, failed = attacked
    return AttackMeasurement(
        name=scenario.name,
        made=next(iter(made.values())),
        probes=len(times) + failed,
        failed=failed,
        p50_ms=_percentile(times, 50),
        p99_ms=_percentile(times, 99),
        max_ms=_percentile(times, 100),
        control_p99_ms=_percentile(beside[0], 99),
        control_max_ms=_percentile(beside[0], 100),
    )


def _probe_both(
    attacked: str, control: str, lasts: Callable[[], bool]
) -> tuple[tuple[list[float], int], tuple[list[float], int]]:
    """Seconds of the answered probes, and how many were not answered, for each."""
    found: dict[str, list[float | None]] = {attacked: [], control: []}
    while lasts():
        for address, taken in found.items():
            taken.append(_probe(address))
        time.sleep(PAUSE_SECONDS)
    first, second = (
        (sorted(each for each in taken if each is not None), taken.count(None)) for taken in found.values()
    )
    return first, second


def _probe(address: str) -> float | None:
    host, _, port = address.rpartition(":")
    answer = b""
    started = time.perf_counter()
    with (
        contextlib.suppress(OSError),
        socket.create_connection((host, int(port)), timeout=PROBE_SECONDS) as kubelet,
    ):
        kubelet.sendall(PROBE)
        while part := kubelet.recv(65_536):
            answer += part
    taken = time.perf_counter() - started
    return taken if answer.startswith(b"HTTP/1.1 200 ") and taken < PROBE_SECONDS else None


def _percentile(ordered: list[float], percent: int) -> float:
    """In ms: the least that so many percent do not exceed."""
    if not ordered:
        return float("nan")
    return round(1000 * ordered[max(0, -(-len(ordered) * percent // 100) - 1)], 1)
