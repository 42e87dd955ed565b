from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from diagnosis.base.errors import LabError
from diagnosis.target.process import Process
from diagnosis.trace import tracer as tracers
from diagnosis.trace.tracer import Tracer
from tests.support.programs import answer, running
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.ebpf


@pytest.fixture
def idle() -> Iterator[Process]:
    """A process that waits for input."""
    with running(sys.executable, "-c", "print('up', flush=True); input()") as program:
        answer(program)
        yield Process(program.pid)


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "mappings"]


def test_a_process_that_ends_before_the_probes_are_in_is_one_line() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        process = Process(child.pid)
        child.kill()
        child.wait()
        with pytest.raises(LabError, match=rf"^pid {child.pid} has ended: ") as caught:
            Tracer(process)
    assert "\n" not in str(caught.value)


def test_closing_a_tracer_ends_its_thread_and_may_be_done_twice(idle: Process) -> None:
    tracer = Tracer(idle)
    assert reading_threads()
    tracer.close()
    tracer.close()
    assert not reading_threads()


def test_an_interruption_while_the_tracer_comes_in_leaves_no_thread_that_reads_what_is_closed(
    idle: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GIVEN Ctrl-C just after the thread has started THEN it ends without a word: an exception of it fails the test."""
    monkeypatch.setattr(tracers, "DRAIN_SECONDS", 0.01)
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        real(thread)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(KeyboardInterrupt):
            Tracer(idle)
    wait_until(lambda: not reading_threads(), "the thread ends")
