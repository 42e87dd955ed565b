"""What is counted, under the names by which the tracer and this project's gadget serve it: rules read both.

The tracer (`memleak-lab trace --listen`) counts by itself, and its totals are counters. The gadget hands out absolute
values from its eBPF maps, which Inspektor Gadget's counters would add up at each reading: so there they are gauges, and
OpenTelemetry's exporter gives `_total` to counters only. For PromQL both are totals since a start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Quantity:
    """One metric. ``tracer`` and ``gadget`` are its names in either exposition, the same where they agree."""

    tracer: str
    gadget: str
    meaning: str

    @property
    def selector(self) -> str:
        """The series of both."""
        if self.tracer == self.gadget:
            return self.tracer
        return f'{{__name__=~"{self.tracer}|{self.gadget}"}}'


OUTSTANDING: Final = Quantity(
    "memleak_outstanding_bytes", "memleak_outstanding_bytes", "bytes allocated since tracing began and not freed"
)
ALLOCATIONS: Final = Quantity("memleak_allocations_total", "memleak_allocations", "blocks allocated")
FREES: Final = Quantity("memleak_frees_total", "memleak_frees", "blocks freed, of those")
QUANTITIES: Final = (OUTSTANDING, ALLOCATIONS, FREES)

# What only one of them serves.
RESIDENT: Final = "memleak_resident_bytes"
MEMORY: Final = "memleak_memory_bytes"
OLDER_FREES: Final = "memleak_older_frees_total"
OLDER_FREED: Final = "memleak_older_freed_bytes_total"
LOST: Final = "memleak_lost_events_total"
UNTRACKED: Final = "memleak_untracked_allocations"
BLOCKS: Final = "memleak_blocks"

# Kinds of lost events whose bytes and calls are counted all the same, under another stack or without one.
COUNTED_ELSEWHERE: Final = ("free", "stack", "stacks", "frames", "older")

# What tells the series of one quantity apart, in either exposition. `pod` and `namespace` are empty outside of
# Kubernetes, where the gadget's `runtime_container` names the container; a tracer watches one process and has neither.
TRACER_LABELS: Final = ("command", "function", "caller", "module")
GADGET_LABELS: Final = (
    "namespace",
    "pod",
    "container",
    "runtime_container",
    "command",
    "pid",
    "function",
    "stack",
)
