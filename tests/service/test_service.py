from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.running_service import FREE_PORTS, MIB, ROOT, environment, fetch, running_service
from tests.support.waiting import LIMIT_SECONDS

if TYPE_CHECKING:
    from tests.support.running_service import Service


def test_it_holds_under_60_mib_at_start(service: Service) -> None:
    assert service.get("/health").status_code == 200
    assert service.resident_bytes() < 60 * MIB


def test_each_port_has_its_own_paths(service: Service) -> None:
    paths = {
        service.http: {"/", "/health", "/ready", "/api/items/1"},
        service.metrics: {"/metrics"},
        service.ledger_address: {"/ledger"},
    }
    every = set().union(*paths.values())
    answered = {address: {path for path in every if fetch(address, path).status_code == 200} for address in paths}
    assert answered == paths


def test_the_ledger_is_on_loopback_whatever_the_host() -> None:
    with running_service(LAB_HOST="0.0.0.0") as service:
        assert service.http.startswith("0.0.0.0:")
        assert service.ledger_address.startswith("127.0.0.1:")
        assert service.ledger()["pid"] == service.process.pid


def test_health_claims_what_the_runtime_sees(service: Service) -> None:
    body = service.get("/health").json()
    assert body["status"] == "healthy"
    assert set(body["health_checks"].values()) == {"normal", "healthy"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["timestamp"])
    assert abs(datetime.fromisoformat(body["timestamp"]) - datetime.now(UTC)) < timedelta(seconds=10)
    assert body["metrics"]["memory_usage_percent"] == pytest.approx(1, abs=0.6)
    # At the start nothing has been leaked and nothing is wrong with the claim yet.
    assert body["metrics"]["resident_memory_bytes"] == pytest.approx(service.resident_bytes(), rel=0.1)
    assert body["metrics"]["gc_collections"] > 0


def test_the_limit_of_the_claims_is_configured() -> None:
    with running_service(LAB_MEMORY_LIMIT_BYTES=str(64 * MIB)) as service:
        assert 10 < service.get("/health").json()["metrics"]["memory_usage_percent"] < 80
        assert 10 < service.value("memory_usage_percent") < 80


def test_requests_are_counted_by_route(service: Service) -> None:
    for path in ("/health", "/api/items/1", "/api/items/2", "/api/items/x", "/nowhere"):
        service.get(path)
    assert service.value("http_requests_total", path="/api/items/{id}", status="200", method="GET") == 2
    assert service.value("http_requests_total", path="/api/items/{id}", status="400") == 1
    assert service.value("http_requests_total", path="/health", status="200") == 1
    assert service.value("http_requests_total", path="unmatched", status="404") == 1
    assert service.value("http_request_duration_seconds_count", path="/api/items/{id}") == 3


def test_the_metrics_are_those_of_the_contract(service: Service) -> None:
    service.get("/health")
    names = {name for name, _ in service.samples()}
    assert names >= {
        "http_requests_total",
        "http_request_duration_seconds_bucket",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "python_gc_collections_total",
        "python_gc_objects_collected_total",
        "python_gc_objects_uncollectable_total",
        "service_health_status",
        "memory_usage_percent",
    }
    assert service.value("service_health_status") == 1


def test_no_text_of_the_claims_steps_out_of_role(service: Service) -> None:
    service.get("/api/items/1")
    told = service.get("/health").text + service.get("/").text + service.get("/ready").text
    told += fetch(service.metrics, "/metrics").text
    for word in ("leak", "claim", "fake", "degraded", "phase", "ledger", "at start", "cached"):
        assert word not in told.lower()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_status_0_and_one_line(service: Service, number: signal.Signals) -> None:
    service.get("/api/items/1")
    service.stop(number)
    assert service.process.returncode == 0
    assert service.event()["event"] == "stopped"
    assert service.process.stdout
    assert service.process.stdout.read() == ""
    assert service.stderr() == ""


def test_a_client_that_keeps_its_connection_waits_for_no_delayed_acknowledgement(service: Service) -> None:
    with httpx.Client(base_url=f"http://{service.http}", trust_env=False) as client:
        seconds = [client.get("/health").elapsed.total_seconds() for _ in range(25)]
    assert min(seconds[10:]) < 0.04, "what the kernel delays an acknowledgement by, after the first few"


def test_a_signal_as_soon_as_it_listens_is_not_lost(service: Service) -> None:
    service.stop()
    assert service.process.returncode == 0


def test_a_reader_who_has_gone_does_not_break_the_stop(service: Service) -> None:
    assert service.process.stdout
    service.process.stdout.close()
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(LIMIT_SECONDS) == 0
    assert service.stderr() == ""


def test_a_port_that_is_taken_is_one_line_and_status_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [sys.executable, "-m", "service"],
            cwd=ROOT,
            env=environment(FREE_PORTS | {"LAB_METRICS_PORT": port}),
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr == (
        f"service: cannot listen on 127.0.0.1 port {port}: Address already in use. "
        "Set LAB_METRICS_PORT to a free port (0: any), or LAB_HOST to an address of this machine.\n"
    )


def test_it_restarts_on_the_port_it_had(service: Service) -> None:
    service.get("/health")  # leaves a connection in TIME_WAIT
    service.stop()
    with running_service(LAB_HTTP_PORT=str(service.port)) as again:
        assert again.get("/health").status_code == 200


def test_it_listens_on_ipv6() -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").read_text().count("lo"):
        pytest.skip("the loopback interface has no IPv6 address")
    with running_service(LAB_HOST="::1") as service:
        assert service.http.startswith("[::1]:")
        assert service.get("/health").status_code == 200
