"""Clients of the metrics that mean no good, beside a real trace."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.programs import CHURN, LEAKER
from tests.hostile.running import GENEROUS_SECONDS, exporting, hostile, metrics
from tests.support.programs import compile_c
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.ebpf, pytest.mark.timeout(300)]


def test_scrapes_and_the_trace_look_names_up_at_the_same_time(folder: Path, unused_tcp_port: int) -> None:
    """GIVEN a target that maps code all the time WHEN three scrape without a pause THEN every scrape is answered."""
    failed: list[str] = []
    with hostile(compile_c(CHURN, folder / "churn")) as pid, exporting(pid, unused_tcp_port) as (address, _):
        scrapes = (
            f"import urllib.request\nfor _ in range(60): urllib.request.urlopen('http://{address}/metrics').read()"
        )
        scrapers = [subprocess.Popen([sys.executable, "-c", scrapes], stderr=subprocess.PIPE) for _ in range(3)]
        for scraper in scrapers:
            _, err = scraper.communicate(timeout=GENEROUS_SECONDS)
            failed += [err.decode()] if scraper.returncode else []
    assert not failed


def test_scrapers_that_never_end_do_not_keep_the_trace(folder: Path, unused_tcp_port: int) -> None:
    """GIVEN three hundred half requests WHEN the trace is over THEN it ends, and until then it answers others."""
    with hostile(compile_c(LEAKER, folder / "leaker")) as pid, exporting(pid, unused_tcp_port) as (address, tracer):
        host, _, port = address.partition(":")
        clients = []
        for _ in range(300):
            client = socket.create_connection((host, int(port)), timeout=30)
            client.sendall(b"GET /metr")
            clients.append(client)
        wait_until(lambda: bool(metrics(address)), "there is a place for another", 60)
        assert len(list(Path(f"/proc/{tracer.pid}/task").iterdir())) < 30
    for client in clients:
        client.close()
