"""`memleak-lab verify` and `trace` against a service that leaks meanwhile, and the alignment of the two counts."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from diagnosis.lab.child import Child
from diagnosis.lab.ledger import LedgerClient, align
from diagnosis.lab.service_env import FREE_PORTS
from diagnosis.lab.unprivileged import choose_user
from diagnosis.target.process import Process
from diagnosis.target.symbols import Symbolizer
from diagnosis.trace.counts import Counts
from diagnosis.trace.tracer import Tracer, Tracing
from tests.lab.command import MEMLEAK_LAB
from tests.support.waiting import LIMIT_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from diagnosis.trace.snapshot import Snapshot

SETTINGS = FREE_PORTS | {"LAB_SPEED": "600"}  # a refresh every 13 ms
ALIGNMENTS = 25


@dataclass(frozen=True)
class Leaking:
    """A service that leaks."""

    process: Process
    ledger: str


def leaking(**settings: str) -> Iterator[Leaking]:
    with Child("service", SETTINGS | settings, choose_user(os.environ, os.geteuid())) as child:
        ledger = f"http://{child.first_event()['ledger']}/ledger"
        with closing(LedgerClient(ledger)) as client:
            wait_until(lambda: client.read().inserts > 0, "the leak begins")
        yield Leaking(Process(child.pid), ledger)


@pytest.fixture(scope="module")
def long_lived() -> Iterator[Leaking]:
    """One service for the tests that only ask. It leaks for 80 s."""
    yield from leaking(LAB_SPEED="200")


def memleak_lab(*arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error."""
    done = subprocess.run([MEMLEAK_LAB, *arguments], capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    return done.returncode, done.stdout, done.stderr


def inserted(tracer: Tracer, symbolizer: Symbolizer, snapshot: Snapshot) -> Counts:
    """What the tracer had counted under the leaking function at a moment."""
    total = Counts()
    for stack, counts in snapshot.counts.items():
        frames = symbolizer.symbolize(tracer.frames(stack)).frames
        if frames and frames[0].function == "catalog_cache_insert":
            total += counts
    return total


@pytest.mark.ebpf
@pytest.mark.parametrize(
    ("chunk", "allow_session"),
    [
        pytest.param(65_536, True, id="64 KiB, one program for entry and return"),
        pytest.param(1_048_576, False, id="1 MiB, a program for each"),
    ],
)
def test_tracer_and_ledger_agree_at_every_moment_while_the_leak_goes_on(chunk: int, allow_session: bool) -> None:
    """GIVEN a refresh every 13 ms WHEN both are read again and again THEN both count the same since the first time."""
    with (
        contextmanager(leaking)(LAB_CHUNK_BYTES=str(chunk)) as service,
        closing(LedgerClient(service.ledger)) as ledger,
        Tracer(service.process, Tracing(allow_session=allow_session)) as tracer,
        Symbolizer(service.process) as symbolizer,
    ):
        readings = [align(ledger.read, tracer.snapshot) for _ in range(ALIGNMENTS)]
        counted = [inserted(tracer, symbolizer, snapshot) for _, snapshot in readings]
        assert not any(tracer.lost().values())
        assert allow_session or not tracer._trace.uses_session
    first, first_counted = readings[0][0], counted[0]
    for (quiet, _), now in zip(readings, counted, strict=True):
        assert now.outstanding_bytes - first_counted.outstanding_bytes == quiet.insert_bytes - first.insert_bytes
        assert now.allocations - first_counted.allocations == quiet.inserts - first.inserts
        assert now.frees == 0
    assert len({quiet.inserts for quiet, _ in readings}) > 3, "it leaked meanwhile"


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ("catalog_cache_insert", 0, "RIGHT: catalog_cache_insert leaked "),
        ("catalog_cache_refresh", 0, "RIGHT: catalog_cache_refresh forgets"),
        ("malloc", 1, "WRONG: malloc is not the function that leaked "),
    ],
)
def test_a_name_is_held_against_a_live_ledger(long_lived: Leaking, answer: str, status: int, said: str) -> None:
    ended, out, err = memleak_lab("verify", answer, "--ledger", long_lived.ledger)
    assert (ended, err) == (status, "")
    assert out.startswith(said)


@pytest.mark.ebpf
def test_a_traced_report_is_held_against_a_live_ledger(long_lived: Leaking, tmp_path: Path) -> None:
    """GIVEN a report of `trace`, as by a learner THEN it is right, and wrong once its function or rate is changed."""
    status, out, _ = memleak_lab("trace", "--pid", str(long_lived.process.pid), "--duration", "8s", "--format", "json")
    assert status == 0
    file = tmp_path / "report.json"

    def verify(report: dict[str, Any]) -> tuple[int, str]:
        file.write_text(json.dumps(report))
        ended, said, err = memleak_lab("verify", str(file), "--ledger", long_lived.ledger)
        assert err == ""
        return ended, said

    right = json.loads(out)
    assert right["verdict"]["function"] == "catalog_cache_insert"
    ended, said = verify(right)
    assert (ended, said[:6]) == (0, "RIGHT:")

    wrong_bytes = json.loads(out)
    for stack in wrong_bytes["stacks"]:
        stack["outstanding_bytes"] *= 2
    ended, said = verify(wrong_bytes)
    assert (ended, said[:21]) == (1, "WRONG by more than 20")

    wrong_function = json.loads(out)
    wrong_function["verdict"]["function"] = "alloc_new_heap"
    ended, said = verify(wrong_function)
    assert (ended, said[:29]) == (1, "WRONG: alloc_new_heap is not ")
