"""What the tracer and this project's gadget serve to Prometheus, over a leak that goes on from scrape to scrape.

The gadget's form is that of Inspektor Gadget 0.49 on a process that leaks 64 KiB blocks: gauges without `_total`, one
series for each process and stack, numbers as Go writes them, and labels that are empty outside of Kubernetes.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tests.support import http_server
from tests.support.http_server import QuietHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

BLOCK_BYTES = 64 * 1024
SCOPE = {"otel_scope_name": "memleak", "otel_scope_schema_url": "", "otel_scope_version": ""}


@dataclass(frozen=True)
class Site:
    """A call stack of one process and what was counted under it. ``labels`` are the gadget's or the tracer's."""

    labels: Mapping[str, str]
    allocations: int
    frees: int = 0

    @property
    def blocks(self) -> int:
        return self.allocations - self.frees

    def later(self, scrapes: int) -> Site:
        """The same after so many scrapes: sixteen blocks more at each."""
        return replace(self, allocations=self.allocations + 16 * scrapes)


def gadget_text(sites: list[Site], untracked: int) -> str:
    """The exposition of the gadget."""
    metrics: dict[str, Callable[[Site], str]] = {
        "memleak_allocations": lambda site: f"{site.allocations}",
        "memleak_blocks": lambda site: f"{site.blocks}",
        "memleak_frees": lambda site: f"{site.frees}",
        "memleak_outstanding_bytes": lambda site: f"{site.blocks * BLOCK_BYTES:.8e}",
        "memleak_untracked_allocations": lambda _: f"{untracked}",
    }
    lines: list[str] = []
    for name, value in metrics.items():
        lines += [f"# HELP {name} about it", f"# TYPE {name} gauge"]
        lines += [f"{name}{{{_labels({**site.labels, **SCOPE})}}} {value(site)}" for site in sites]
    return "\n".join([*lines, ""])


def tracer_text(sites: list[Site], lost: Mapping[str, int]) -> str:
    """The exposition of `memleak-lab trace --listen`."""
    metrics: dict[tuple[str, str], Callable[[Site], int]] = {
        ("memleak_outstanding_bytes", "gauge"): lambda site: site.blocks * BLOCK_BYTES,
        ("memleak_allocations_total", "counter"): lambda site: site.allocations,
        ("memleak_frees_total", "counter"): lambda site: site.frees,
    }
    lines: list[str] = []
    for (name, kind), value in metrics.items():
        lines += [f"# TYPE {name} {kind}"]
        lines += [f"{name}{{{_labels(site.labels)}}} {value(site):.1f}" for site in sites]
    lines += ["# TYPE memleak_lost_events_total counter"]
    lines += [f'memleak_lost_events_total{{command="python",kind="{kind}"}} {count}' for kind, count in lost.items()]
    return "\n".join([*lines, ""])


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{value}"' for name, value in sorted(labels.items()))


@contextlib.contextmanager
def serving(text: Callable[[int], str]) -> Iterator[str]:
    """Serve what ``text`` gives for the number of scrapes before; yields the address."""
    scrapes = iter(range(1_000_000))

    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 - the library calls it so
            self.answer(200, text(next(scrapes)).encode(), {"Content-Type": "text/plain; version=0.0.4"})

    with http_server.serving(Handler) as address:
        yield address
