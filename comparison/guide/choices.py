"""When to take which tool: the guide's first table, to which `make guide` adds what was measured."""

from __future__ import annotations

from typing import Final, NamedTuple


class Choice(NamedTuple):
    """One tool, by its slug: what one has, the tool with its place in the guide, and why to take it."""

    slug: str
    have: str
    take: str
    because: str

    @property
    def cells(self) -> tuple[str, str, str]:
        """What is in the table as it is here."""
        return self.have, self.take, self.because


CHOICES: Final = (
    Choice(
        "memleak-lab",
        "root on the machine where the process runs",
        "[memleak-lab trace](#memleak-lab-trace)",
        "exact at every block size, names file and line, cheapest of those that count blocks",
    ),
    Choice(
        "gadget",
        "a cluster, and no shell on its nodes",
        "[Inspektor Gadget](#inspektor-gadget)",
        "runs from `kubectl`, per pod, and feeds Prometheus",
    ),
    Choice(
        "bpftrace",
        "a node with bpftrace, where you may copy a file",
        "[bpftrace](#bpftrace)",
        "the same accounting in one script that you can read and change",
    ),
    Choice(
        "bcc",
        "a node with BCC",
        "[BCC memleak](#bcc-memleak)",
        "nothing to copy; good for blocks below 128 KiB, misleading above",
    ),
    Choice(
        "perf",
        "no wish to touch the process at all",
        "[perf](#perf)",
        "samples page faults and costs nothing that can be measured; names the code that grows, not what is freed",
    ),
)
