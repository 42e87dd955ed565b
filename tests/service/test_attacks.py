"""Hostile clients, each in a process of its own: /health is compared with that of a service that is not attacked."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from comparison.loops.attacks import LOOKUP
from tests.support.running_service import ROOT, running_degraded_service, running_service
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.running_service import Service

PROBE_SECONDS = 1.0  # what a kubelet allows by default
PROBE = b"GET /health HTTP/1.1\r\nHost: catalog\r\nConnection: close\r\n\r\n"
ATTACK_SECONDS = 3.0
# On a machine whose cores are busy with the attack and with other tests, a probe waits for a core. A probe that waited
# behind an attack's requests took 300 times as long as one that did not, before there was a front.
TIMES_AS_LONG = 40
FAILED_SHARE = 0.02
ROUNDS = 5

needs_prlimit = pytest.mark.skipif(not shutil.which("prlimit"), reason="needs prlimit on the PATH")


@dataclass
class Probed:
    """Seconds of the probes that were answered in time, and how many were not."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0

    def ask(self, service: Service) -> None:
        started = time.perf_counter()
        answer = b""
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", service.port), timeout=PROBE_SECONDS) as kubelet,
        ):
            kubelet.sendall(PROBE)
            while part := kubelet.recv(65_536):
                answer += part
        taken = time.perf_counter() - started
        if answer.startswith(b"HTTP/1.1 200 OK") and taken < PROBE_SECONDS:
            self.seconds.append(taken)
        else:
            self.failed += 1


@contextlib.contextmanager
def attack(name: str, address: str, seconds: float = ATTACK_SECONDS) -> Iterator[subprocess.Popen[str]]:
    """The attack, under way."""
    port = address.rpartition(":")[2]
    with subprocess.Popen(
        [sys.executable, "-m", "comparison.loops.attacks", name, port, str(seconds)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "begun\n"
            yield process
        finally:
            process.kill()


def probe_beside(attacker: subprocess.Popen[str], attacked: Service, control: Service) -> dict[str, int]:
    """Ask both until the attack ends, and compare; what the attack did."""
    probed, of_control = Probed(), Probed()
    while attacker.poll() is None:
        probed.ask(attacked)
        of_control.ask(control)
        time.sleep(0.01)
    asked = len(probed.seconds) + probed.failed
    assert asked >= 20
    assert probed.failed <= 1 + FAILED_SHARE * asked + of_control.failed  # one can fall into a pause of the machine
    assert statistics.median(probed.seconds) < TIMES_AS_LONG * statistics.median(of_control.seconds)
    assert attacked.stderr() == ""
    assert attacker.stdout
    done: dict[str, int] = json.loads(attacker.stdout.read())
    return done


@pytest.fixture(scope="module")
def control() -> Iterator[Service]:
    with running_service() as service:
        yield service


def test_200_clients_that_pipeline_and_do_not_read(service: Service, control: Service) -> None:
    with attack("pipelining", service.http) as attacker:
        probe_beside(attacker, service, control)


@pytest.mark.parametrize("listener", ["http", "metrics", "ledger_address"])
@pytest.mark.parametrize("name", ["flood", "asking_flood"])
def test_one_process_that_floods_a_port_with_connections(
    name: str, listener: str, service: Service, control: Service
) -> None:
    with attack(name, getattr(service, listener)) as attacker:
        done = probe_beside(attacker, service, control)
    assert done["connections"] > 100 * ATTACK_SECONDS


def test_10000_connections_in_ten_seconds(service: Service, control: Service) -> None:
    with attack("crowd", service.http, seconds=10) as attacker:
        assert probe_beside(attacker, service, control)["connections"] > 9_000


@needs_prlimit
def test_more_connections_than_descriptors(control: Service) -> None:
    with running_service("prlimit", "--nofile=256:256") as service, attack("idle", service.http) as attacker:
        assert probe_beside(attacker, service, control)["connections"] == 600


@needs_prlimit
def test_each_listener_answers_while_connections_fill_the_descriptors(control: Service) -> None:
    with running_service("prlimit", "--nofile=256:256") as service, attack("idle", service.metrics) as attacker:
        assert service.ledger()["phase"] == "normal"
        assert service.value("service_health_status") == 1
        assert service.get("/api/items/1").status_code == 200
        probe_beside(attacker, service, control)


def test_a_process_whose_lookups_are_hung_up_on(degraded_service: Service, control: Service) -> None:
    degraded_service.get("/api/items/1")  # from here on lookups are known to be long
    with attack("hang_up", degraded_service.http) as attacker:
        assert probe_beside(attacker, degraded_service, control)["lookups"] > 100 * ATTACK_SECONDS


def test_lookups_whose_clients_have_hung_up_are_not_walked() -> None:
    """Five at a time: more at once are a flood, and are not even handed on."""
    with running_degraded_service() as service:
        service.get("/api/items/1")  # from here on lookups are known to be long
        for hung_up in range(5, 55, 5):
            with stopped(service):
                for _ in range(5):
                    with socket.create_connection(("127.0.0.1", service.port)) as client:
                        client.sendall(LOOKUP)
            wait_until(lambda hung_up=hung_up: lookups(service, "499") == hung_up, "they are noticed")  # type: ignore[misc]
        assert lookups(service, "200") == 1


def lookups(service: Service, status: str) -> float:
    return service.value("http_requests_total", path="/api/items/{id}", status=status)


def test_a_newcomer_is_served_before_thousands_who_leave(service: Service) -> None:
    """All of them are ready to be read when the newcomer comes: it is not behind them.

    Who looks late sees fewer of them, and never more.
    """
    count, left = 0, [0]
    while len(left) <= ROUNDS and max(left) <= count / 10:
        count, still_there = newcomer_among_leavers(service)
        left.append(still_there)
    assert max(left) > count / 10


def newcomer_among_leavers(service: Service) -> tuple[int, int]:
    """How many clients leave at once, and how many of them are still there when a newcomer has its answer."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(8000, hard - 500)
    with contextlib.ExitStack() as connected, raised_file_limit():
        clients = [
            connected.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=10))
            for _ in range(count)
        ]
        wait_until(lambda: open_files(service) > count, "all are accepted")
        with stopped(service):
            for client in clients:
                client.close()
            newcomer = connected.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=10))
            newcomer.sendall(PROBE)
        assert newcomer.recv(15) == b"HTTP/1.1 200 OK"
        return count, open_files(service)


def open_files(service: Service) -> int:
    return len(list(Path(f"/proc/{service.process.pid}/fd").iterdir()))


@contextlib.contextmanager
def raised_file_limit() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def stopped(service: Service) -> Iterator[None]:
    """The service does nothing meanwhile: its connections wait in the kernel."""
    os.kill(service.process.pid, signal.SIGSTOP)
    try:
        wait_until(
            lambda: Path(f"/proc/{service.process.pid}/stat").read_text().rpartition(") ")[2].startswith("T"),
            "it stops",
        )
        yield
    finally:
        os.kill(service.process.pid, signal.SIGCONT)
