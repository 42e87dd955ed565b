"""The tracer's numbers as Prometheus sees them."""

from __future__ import annotations

import urllib.request
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from heap_trace import Ending, Lost, Older
from prometheus_client.parser import text_string_to_metric_families

from diagnosis.base.errors import LabError
from diagnosis.output.exporter import MAX_SITES, TraceCollector, serve
from diagnosis.target.process import Resident
from diagnosis.target.symbols import Frame, SymbolizedStack
from diagnosis.trace.counts import Counts
from diagnosis.trace.snapshot import Snapshot
from grafana import vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class FakeTracer:
    """Counts by stack, where the stack's number is its only address."""

    def __init__(self) -> None:
        self.counts: dict[int, Counts] = {}
        self.alive = True
        self.snapshots = 0
        self.older: Older | None = Older(7, 700)
        self.process = SimpleNamespace(command="/usr/bin/python3 -m service", resident=self.resident)

    def snapshot(self) -> Snapshot:
        self.snapshots += 1
        return Snapshot(0.0, {stack: counts + Counts() for stack, counts in self.counts.items()}, self.older)

    def frames(self, stack: int) -> tuple[int, ...]:
        return (stack,)

    def ending(self, stack: int) -> Ending:
        del stack
        return Ending.START

    def python(self, stack: int) -> None:
        """No Python runs in it."""

    def lost(self) -> Mapping[Lost, int]:
        return {kind: int(kind) for kind in Lost}

    def resident(self) -> Resident:
        if not self.alive:
            raise LabError("it has ended")
        return Resident(1000, 900)


class FakeSymbolizer:
    def lost_names(self) -> dict[str, str]:
        return {}

    def symbolize(self, addresses: tuple[int, ...], ending: Ending, python: None) -> SymbolizedStack:
        del python
        frames = (Frame(f"f{addresses[0]}", "lib.so", "", 0, 0), Frame("main", "app", "", 0, 0))
        return SymbolizedStack(frames, broken=False, depth=2, ending=ending)


@pytest.fixture
def tracer() -> FakeTracer:
    return FakeTracer()


def samples(tracer: FakeTracer, collector: TraceCollector | None = None) -> dict[tuple[str, str], float]:
    """Value by metric and function (or kind)."""
    families = (collector or make(tracer)).collect()
    return {
        (sample.name, sample.labels.get("function") or sample.labels.get("kind") or ""): sample.value
        for family in families
        for sample in family.samples
    }


def make(tracer: FakeTracer) -> TraceCollector:
    fake: Any = tracer
    symbolizer: Any = FakeSymbolizer()
    return TraceCollector(fake, symbolizer)


def test_a_scrape_reads_the_counts_once(tracer: FakeTracer) -> None:
    collector = make(tracer)
    before = tracer.snapshots
    assert samples(tracer, collector)
    assert tracer.snapshots == before + 1


def start(tracer: FakeTracer, address: str) -> Callable[[], None]:
    fake: Any = tracer
    symbolizer: Any = FakeSymbolizer()
    return serve(fake, symbolizer, address)


def test_counts_are_those_since_the_collector_was_made(tracer: FakeTracer) -> None:
    tracer.counts[1] = Counts(10, 1000, 2, 200)
    collector = make(tracer)
    tracer.counts[1] = Counts(15, 1500, 3, 300)
    found = samples(tracer, collector)
    assert found["memleak_outstanding_bytes", "f1"] == 400
    assert found["memleak_allocations_total", "f1"] == 5
    assert found["memleak_frees_total", "f1"] == 1


def test_every_kind_of_lost_event_is_there_also_at_zero(tracer: FakeTracer) -> None:
    found = samples(tracer)
    kinds = {kind for name, kind in found if name == "memleak_lost_events_total"}
    assert kinds == {"names", *(kind.name.lower() for kind in Lost)}


def test_names_and_labels_are_those_that_the_rules_know(tracer: FakeTracer) -> None:
    collector = make(tracer)
    tracer.counts[1] = Counts(1, 1, 0, 0)
    found = [sample for family in collector.collect() for sample in family.samples]
    sites = [sample for sample in found if "function" in sample.labels]

    assert {sample.name for sample in sites} == {quantity.tracer for quantity in vocabulary.QUANTITIES}
    assert {tuple(sample.labels) for sample in sites} == {vocabulary.TRACER_LABELS}
    assert {sample.name for sample in found if sample not in sites} == {
        vocabulary.LOST, vocabulary.RESIDENT, vocabulary.MEMORY, vocabulary.OLDER_FREES, vocabulary.OLDER_FREED,
    }  # fmt: skip


def test_sites_are_bounded_and_keep_their_labels(tracer: FakeTracer) -> None:
    collector = make(tracer)
    for stack in range(1, 3 * MAX_SITES):
        tracer.counts[stack] = Counts(1, stack, 0, 0)
    first = samples(tracer, collector)
    named = {function for name, function in first if name == "memleak_outstanding_bytes"}
    assert len(named) == MAX_SITES + 1
    assert "[other]" in named
    largest = f"f{3 * MAX_SITES - 1}"
    assert largest in named, "the largest have the labels"
    # One that came too late grows beyond all others: its series must not change its name.
    tracer.counts[1] = Counts(1, 10**9, 0, 0)
    second = samples(tracer, collector)
    assert {function for name, function in second if name == "memleak_outstanding_bytes"} == named
    assert second["memleak_outstanding_bytes", "[other]"] >= 10**9


def test_a_process_that_ended_has_no_resident_memory_rather_than_none_left(tracer: FakeTracer) -> None:
    collector = make(tracer)
    assert ("memleak_resident_bytes", "") in samples(tracer, collector)
    tracer.alive = False
    assert ("memleak_resident_bytes", "") not in samples(tracer, collector)


@pytest.mark.parametrize("address", ["9435", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", ":9435"])
def test_what_is_no_address_is_refused(tracer: FakeTracer, address: str) -> None:
    with pytest.raises(LabError, match=r"is no address: write --listen 127.0.0.1:9435"):
        start(tracer, address)


@pytest.mark.parametrize("port", ["65536", "99999", "9" * 5000])
def test_a_port_that_cannot_be_is_refused_with_the_range(tracer: FakeTracer, port: str) -> None:
    with pytest.raises(LabError, match="a port is from 0 to 65535, and 0 takes a free one: write --listen"):
        start(tracer, f"127.0.0.1:{port}")


def test_it_is_served_and_parsed_and_stops(tracer: FakeTracer, unused_tcp_port: int) -> None:
    tracer.counts[1] = Counts(1, 1, 0, 0)
    stop = start(tracer, f"127.0.0.1:{unused_tcp_port}")
    try:
        with pytest.raises(LabError, match=r"choose a free port"):
            start(tracer, f"127.0.0.1:{unused_tcp_port}")
        with urllib.request.urlopen(f"http://127.0.0.1:{unused_tcp_port}/metrics") as answer:
            text = answer.read().decode()
    finally:
        stop()
    names = {family.name for family in text_string_to_metric_families(text)}
    assert {"memleak_allocations", "memleak_frees", "memleak_lost_events", "memleak_resident_bytes"} <= names
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{unused_tcp_port}/metrics")


def test_frees_of_older_blocks_are_those_since_the_collector_was_made(tracer: FakeTracer) -> None:
    collector = make(tracer)
    tracer.older = Older(10, 1000, 1)
    found = {(metric.name, sample.value) for metric in collector.collect() for sample in metric.samples}
    assert ("memleak_older_frees", 3.0) in found
    assert ("memleak_older_freed_bytes", 300.0) in found


def test_memory_is_there_by_kind_and_adds_up(tracer: FakeTracer) -> None:
    kinds = {
        sample.labels["kind"]: sample.value
        for metric in make(tracer).collect()
        if metric.name == "memleak_memory_bytes"
        for sample in metric.samples
    }
    assert set(kinds) == {"anonymous", "file", "shared", "swapped"}
    assert kinds["anonymous"] + kinds["file"] + kinds["shared"] == tracer.resident().total_bytes


def test_after_it_has_stopped_the_tracer_is_read_no_more(tracer: FakeTracer) -> None:
    collector = make(tracer)
    collector.close()
    assert list(collector.collect()) == []
