"""Probes are tried on a process of the tracer's own: exact there, or not used at all."""

from __future__ import annotations

import platform
import signal

import pytest

from diagnosis.trace import trial
from diagnosis.trace.trial import BLOCKS, Trial, endangers_filtered, try_probes

NR_WRITE = {"x86_64": 1, "aarch64": 64}


@pytest.mark.ebpf
@pytest.mark.parametrize("allow_session", [True, False], ids=["session", "two-programs"])
def test_every_block_of_the_child_is_counted(allow_session: bool) -> None:
    tried = try_probes(allow_session=allow_session)
    assert (tried.counted, tried.ended_by, tried.exact) == (BLOCKS, 0, True)


@pytest.mark.ebpf
def test_a_child_that_its_filter_ends_is_not_exact() -> None:
    """GIVEN a filter that forbids what the child does THEN its end is seen, as a return probe's would be."""
    tried = try_probes(forbidden_call=NR_WRITE[platform.machine()], starts=False)
    assert tried.ended_by == signal.SIGSYS
    assert not tried.exact


@pytest.mark.parametrize(
    ("release", "machine", "tried"),
    [
        ("6.10.14", "x86_64", False),
        ("6.11.0-19-generic", "x86_64", True),
        ("6.12.118+deb13-amd64", "x86_64", True),
        ("6.13.0", "x86_64", True),
        ("6.14.0-rc1", "x86_64", False),
        ("7.2.13", "x86_64", False),
        ("6.12.0", "aarch64", False),
    ],
)
def test_only_kernels_that_can_end_a_filtered_process_are_tried(
    monkeypatch: pytest.MonkeyPatch, release: str, machine: str, tried: bool
) -> None:
    calls: list[int | None] = []

    def try_it(*, forbidden_call: int | None = None) -> Trial:
        calls.append(forbidden_call)
        return Trial(0, signal.SIGSYS, uses_session=False)

    monkeypatch.setattr(trial, "try_probes", try_it)
    assert endangers_filtered(release, machine) is tried
    assert calls == ([trial.URETPROBE] if tried else [])
