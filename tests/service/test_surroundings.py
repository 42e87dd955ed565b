"""What the service does without what a process usually has: a reader of its output, /proc, memory."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from service.claims import RuntimeView
from tests.support.ports import free_port
from tests.support.running_service import FREE_PORTS, MIB, ROOT, environment, fetch, running_service
from tests.support.waiting import wait_until

REDIRECTIONS = {
    "no output": ">&-",
    "no error output": "2>&-",
    "nothing": "<&- >&- 2>&-",
    "a full disk": ">/dev/full 2>/dev/full",
}


def free_ports(count: int) -> list[str]:
    """Ports that were free a moment ago: the event that names the service's own is not to be read here."""
    ports: set[str] = set()
    while len(ports) < count:
        ports.add(str(free_port()))
    return list(ports)


def answers(port: str) -> bool:
    try:
        return fetch(f"127.0.0.1:{port}", "/health").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("redirection", REDIRECTIONS)
def test_a_service_whose_output_goes_nowhere_serves_and_ends_as_usual(redirection: str, tmp_path: Path) -> None:
    http, metrics, ledger = free_ports(3)
    log = tmp_path / "log"
    variables = {"LAB_HOST": "127.0.0.1", "LAB_HTTP_PORT": http, "LAB_METRICS_PORT": metrics, "LAB_LEDGER_PORT": ledger}
    with (
        log.open("w") as errors,
        subprocess.Popen(
            ["sh", "-c", f'exec "$@" {REDIRECTIONS[redirection]}', "sh", sys.executable, "-m", "service"],
            cwd=ROOT,
            env=environment(variables),
            stdout=subprocess.DEVNULL,
            stderr=errors,
        ) as process,
    ):
        try:
            wait_until(lambda: answers(http), "it serves")
            # Descriptors 0 to 2 are files and no connection: an event is not written into a client's.
            kinds = [str(Path(f"/proc/{process.pid}/fd/{number}").readlink()).partition(":")[0] for number in range(3)]
            assert "socket" not in kinds
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        finally:
            process.kill()
    assert log.read_text() == ""


def test_a_pipe_that_is_full_and_not_read_holds_up_neither_start_nor_end() -> None:
    http, metrics, ledger = free_ports(3)
    variables = {"LAB_HOST": "127.0.0.1", "LAB_HTTP_PORT": http, "LAB_METRICS_PORT": metrics, "LAB_LEDGER_PORT": ledger}
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(write, True)
    with subprocess.Popen(
        [sys.executable, "-m", "service"], cwd=ROOT, env=environment(variables), stdout=write, stderr=subprocess.PIPE
    ) as process:
        try:
            os.close(write)
            wait_until(lambda: answers(http), "it serves")
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            assert process.stderr
            assert process.stderr.read() == b""
        finally:
            process.kill()
            os.close(read)


@pytest.mark.parametrize("module", ["service", "service.visitors"])
def test_a_bad_configuration_with_no_error_output_is_status_2(module: str) -> None:
    ended = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-m", module],
        cwd=ROOT,
        env=environment({"LAB_SPEED": "0", "LAB_TARGET_URL": "x"}),
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, b"")


def test_without_proc_memory_at_the_start_is_the_most_there_has_been(tmp_path: Path) -> None:
    claims = RuntimeView(64 * MIB, statm=tmp_path / "statm").read()
    assert 5 * MIB < claims.resident_bytes == pytest.approx(claims.virtual_bytes, rel=0.01)


@pytest.mark.root
@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare on the PATH")
def test_without_proc_it_serves_and_writes_no_error() -> None:
    without_proc = ("unshare", "--mount", "sh", "-c", 'umount -l /proc && exec "$@"', "sh")
    with running_service(*without_proc) as service:
        assert service.get("/health").json()["status"] == "healthy"
        assert service.value("service_health_status") == 1
        assert service.get("/api/items/1").status_code == 200
        service.stop()
        assert service.process.returncode == 0
        assert service.stderr() == ""


# Down to the smallest: what is too small for the leak is left to the interpreter.
@pytest.mark.parametrize("chunk_bytes", [4096, 65_536, MIB])
@pytest.mark.skipif(not shutil.which("prlimit"), reason="needs prlimit on the PATH")
def test_when_the_allocator_fails_everything_still_answers(chunk_bytes: int) -> None:
    """The leak takes all addresses that the process may have, and asks for more again and again."""
    with running_service("prlimit", f"--as={500 * MIB}", LAB_SPEED="1000", LAB_CHUNK_BYTES=str(chunk_bytes)) as service:
        wait_until(lambda: service.ledger()["insert_failures"] > 20, "the allocator fails", seconds=60)
        for number in range(50):
            assert service.get("/health").json()["status"] == "healthy"
            assert service.get("/ready").json() == {"ready": True}
            assert service.get(f"/api/items/{number}").status_code == 200
        assert service.value("service_health_status") == 1
        assert service.ledger()["insert_failures"] > 20
        service.stop()
        assert service.process.returncode == 0
        assert service.stderr() == ""


def test_with_no_thread_to_be_had_it_ends_with_a_line_and_status_1() -> None:
    without_threads = (
        "import sys; from service.catalog import Lookups; from service.__main__ import main\n"
        'def start(_):\n    raise RuntimeError("can\'t start new thread")\n'
        "Lookups.start = start; sys.exit(main())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", without_threads],
        cwd=ROOT,
        env=environment(FREE_PORTS),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        "service: can't start new thread. Raise the limit on memory (ulimit -v) or on processes (ulimit -u).\n"
    )
