"""Growth of memory that no allocator call explains, and who is to be named for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from diagnosis.report.site import CallSite


class Touched(NamedTuple):
    """A call site and bytes that became resident: of addresses that it reserved, or estimated from its page faults."""

    site: CallSite
    bytes: float


@dataclass(frozen=True)
class Unseen:
    """Growth of memory that no allocator call explains; who reserved it, and who touched most of it, where it is known.

    ``resident`` is False for memory that resident memory does not count.
    """

    bytes: int
    kind: str
    meaning: str
    resident: bool = True
    reserved: tuple[Touched, ...] = ()
    touched: tuple[Touched, ...] = ()

    @property
    def site(self) -> CallSite | None:
        """The one to name: who reserved it, which is exact, or else who touched most of it."""
        known = (*self.reserved, *self.touched)
        return known[0].site if known else None
