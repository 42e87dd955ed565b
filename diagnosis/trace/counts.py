"""What one call stack took and gave back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counts:
    """What one stack took and gave back.

    ``replaced`` of its allocations were reallocs of a block that is older than the trace, which had so many bytes.
    """

    allocations: int = 0
    allocated_bytes: int = 0
    frees: int = 0
    freed_bytes: int = 0
    replaced: int = 0
    replaced_bytes: int = 0

    @property
    def outstanding_bytes(self) -> int:
        """Bytes taken and not given back."""
        return self.allocated_bytes - self.freed_bytes

    @property
    def outstanding(self) -> int:
        """Blocks taken and not given back."""
        return self.allocations - self.frees

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.allocations + other.allocations,
            self.allocated_bytes + other.allocated_bytes,
            self.frees + other.frees,
            self.freed_bytes + other.freed_bytes,
            self.replaced + other.replaced,
            self.replaced_bytes + other.replaced_bytes,
        )

    def __sub__(self, other: Counts) -> Counts:
        return Counts(
            self.allocations - other.allocations,
            self.allocated_bytes - other.allocated_bytes,
            self.frees - other.frees,
            self.freed_bytes - other.freed_bytes,
            self.replaced - other.replaced,
            self.replaced_bytes - other.replaced_bytes,
        )
