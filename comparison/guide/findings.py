"""What a tool said, and how much that differs from the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagnosis.base.units import MIB
from diagnosis.lab.grade import LEAKING_FUNCTION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from comparison.guide.service import Scene
    from comparison.tools.tool import Row

# A stack counts as the leak if its bytes are this near to the ledger's: page faults are sampled, mappings are rounded.
NEAR = 0.05


@dataclass(frozen=True)
class Finding:
    """One tool on one scene.

    Attributes:
        named: whether the stack that holds the leak holds the function that leaks.
        names: the innermost function of that stack where it does not; "" if there is no such stack either.
        bytes_off: its bytes less the ledger's; None if there is no such stack.
        false_bytes: outstanding bytes that the tool reports elsewhere, that did not leak: stacks of 1 MiB and more.
    """

    tool: str
    scene: Scene
    found: bool
    named: bool
    names: str
    bytes_off: int | None
    false_bytes: int


def judge(tool: str, scene: Scene, rows: Sequence[Row], leaked_bytes: int) -> Finding:
    """Compare what a tool reported with what was leaked.

    Args:
        tool: its name.
        scene: what it was run on.
        rows: the stacks that it reported.
        leaked_bytes: the ledger's bytes, all of them from one call stack.
    """
    naming = [row for row in rows if LEAKING_FUNCTION in row.functions]
    near = [row for row in rows if abs(row.outstanding_bytes - leaked_bytes) <= NEAR * leaked_bytes]
    leak = max([row for row in near if row in naming] or near, key=lambda row: row.outstanding_bytes, default=None)
    return Finding(
        tool=tool,
        scene=scene,
        found=leak is not None,
        named=leak in naming,
        names=leak.functions[0] if leak and leak.functions and leak not in naming else "",
        bytes_off=leak.outstanding_bytes - leaked_bytes if leak else None,
        false_bytes=sum(
            row.outstanding_bytes
            for row in rows
            if row is not leak and row not in naming and row.outstanding_bytes >= MIB
        ),
    )
