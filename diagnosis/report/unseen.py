"""Growth of memory that no allocator call explains, and who is to be named for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from diagnosis.base.units import format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diagnosis.report.site import CallSite

# Code that touched this many times a part touched another one as well: estimates of page faults are off by less.
MORE_THAN_ONE_PART = 1.5


class Touched(NamedTuple):
    """A call site and bytes that became resident: of addresses that it reserved, or estimated from its page faults."""

    site: CallSite
    bytes: float


@dataclass(frozen=True)
class Unseen:
    """Growth of memory that no call of an allocator explains; who reserved it and who touched most of it, if known.

    ``resident`` is False for memory that resident memory does not count. ``readings`` are its bytes at the readings of
    the window, less those at the first, as far as they are known: with what was freed and kept by the allocator.
    """

    bytes: int
    kind: str
    meaning: str
    resident: bool = True
    reserved: tuple[Touched, ...] = ()
    touched: tuple[Touched, ...] = ()
    readings: tuple[int, ...] = ()

    @property
    def site(self) -> CallSite | None:
        """The one to name: who reserved it, which is exact, or else who touched most of it."""
        known = (*self.reserved, *self.touched)
        return known[0].site if known else None


def most_unseen(parts: Sequence[Unseen]) -> Unseen | None:
    """The largest growth that no allocator call explains, with the others that the same code may have touched.

    Page faults tell who touched memory and not of which kind: where the code that touched one part touched more than
    that part in all, the rest went into another one, and the two are named together.
    """
    if not parts:
        return None
    largest, *others = sorted(parts, key=lambda part: -part.bytes)
    touched = sum(each.bytes for each in largest.touched)
    if largest.reserved or touched < MORE_THAN_ONE_PART * largest.bytes:
        return largest
    together = [largest, *(part for part in others if not part.reserved and {*part.touched} & {*largest.touched})]
    if len(together) == 1:
        return largest
    return replace(
        largest,
        bytes=sum(part.bytes for part in together),
        meaning=" and ".join(f"{part.meaning} ({format_size(part.bytes)})" for part in together),
    )
