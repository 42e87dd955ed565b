"""Whatever ends `memleak-lab run`, and whenever: no process, no probe and no file of it is left."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.lab.command import descendants
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab.command import Command
    from tests.lab.conftest import MemleakLab

pytestmark = pytest.mark.ebpf

WATCHING = "run --plain --speed 1 --duration 1h --window 1m --report report.json"
TRACING = "run --plain --speed 60 --duration 1s --window 1m --report report.json"


def starting(command: Command) -> None:
    """The service's process is there, and is not yet the service."""
    wait_until(lambda: bool(descendants(command.pid)), "a child appears")


def watching(command: Command) -> None:
    """Service and visitors run, and claims are compared with the kernel's truth."""
    command.read_until("The service is pid")
    wait_until(lambda: len(descendants(command.pid)) == 2, "the service and its visitors are there")


def attaching(command: Command) -> None:
    """The tracer is about to come in."""
    command.read_until("Tracing pid")


def tracing(command: Command) -> None:
    """The probes are attached."""
    command.read_until("Tracing pid")
    wait_until(lambda: any(held.kind == "link_id" for held in command.note_bpf()), "the probes are attached")
    assert all(held.exists() for held in command.bpf), "the kernel is asked the right question"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize(
    ("moment", "arguments"),
    [(starting, WATCHING), (watching, WATCHING), (attaching, TRACING), (tracing, TRACING)],
)
def test_a_run_that_is_ended_leaves_nothing_behind(
    memleak_lab: MemleakLab, moment: Callable[[Command], None], arguments: str, number: signal.Signals
) -> None:
    with memleak_lab(arguments) as command:
        moment(command)
        command.send(number)
        status = command.end()
        if number is signal.SIGKILL:
            assert status == -signal.SIGKILL
        else:
            assert status == 130
            assert command.stderr() == "memleak-lab: interrupted: everything it started is gone\n"
            # Interrupted in the middle of starting it, the run may not know its child yet, which then ends by itself.
            assert moment is starting or not command.orphans(), "that line is true when it is printed"
        command.assert_nothing_is_left()
        assert bool(command.bpf) is (moment is tracing), "otherwise nothing was looked for"


def test_a_closed_terminal_leaves_nothing_behind(memleak_lab: MemleakLab) -> None:
    with memleak_lab(WATCHING) as command:
        watching(command)
        command.send(signal.SIGHUP)
        assert command.end() == 130
        command.assert_nothing_is_left()


def test_repeated_interruptions_leave_nothing_behind(memleak_lab: MemleakLab) -> None:
    """GIVEN a run that is being ended WHEN Ctrl-C comes again and again THEN it ends all the same."""
    with memleak_lab(TRACING) as command:
        tracing(command)
        for _ in range(5):
            command.send(signal.SIGINT)
        assert command.end() == 130
        command.assert_nothing_is_left()


def test_a_service_that_dies_ends_the_run_with_the_reason(memleak_lab: MemleakLab) -> None:
    with memleak_lab(WATCHING) as command:
        service = int(command.read_until("The service is pid").split("pid ")[1].split(",")[0])
        os.kill(service, signal.SIGKILL)
        assert command.end() == 2
        assert command.stderr().startswith("memleak-lab: ")
        assert command.stderr().count("\n") == 1
        command.assert_nothing_is_left()


def test_a_reader_that_goes_away_ends_the_run(memleak_lab: MemleakLab) -> None:
    """As `memleak-lab run | head -1` does."""
    with memleak_lab("run --speed 600 --duration 1h") as command:
        watching(command)
        command.stop_reading()
        assert command.end() != 0
        assert "Traceback" not in command.stderr()
        command.assert_nothing_is_left()
