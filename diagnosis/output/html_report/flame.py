"""The tree of a flame graph: bytes outstanding by call stack, the outermost function first."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from diagnosis.output.folded import short_command
from diagnosis.output.html_report.frames import Kind, kinds_of, place_of
from diagnosis.report.site import UNKNOWN_STACK

if TYPE_CHECKING:
    from diagnosis.report.report import Report

# Stacks that hold less than all of these are one frame together: more could not be seen, and a page stays small.
MOST_STACKS = 4_000

# Places that a frame names of those at which a function was.
MOST_PLACES = 5

CUT_SHORT = "[stack cut short]"


@dataclass
class _Node:
    """One function under one chain of callers. ``size`` is in bytes, with what its callees hold."""

    name: str
    kind: Kind
    module: str = ""
    size: int = 0
    places: dict[str, None] = field(default_factory=dict)
    children: dict[tuple[str, str], _Node] = field(default_factory=dict)

    def child(self, name: str, kind: Kind, module: str = "") -> _Node:
        return self.children.setdefault((name, module), _Node(name, kind, module))

    def fields(self, parent: int) -> dict[str, Any]:
        """As the page's scripts read it."""
        fields = {"parent": parent, "name": self.name, "kind": self.kind, "value": self.size}
        if self.module:
            fields["module"] = self.module
        if self.places:
            fields["places"] = list(self.places)[:MOST_PLACES]
        return fields


def _flat(root: _Node) -> list[dict[str, Any]]:
    """A tree as a list, each node after its parent and with its index: a nested one is too deep for JSON's encoder."""
    flat: list[dict[str, Any]] = []
    todo = deque([(-1, root)])
    while todo:
        parent, node = todo.popleft()
        todo += ((len(flat), child) for child in sorted(node.children.values(), key=lambda each: -each.size))
        flat.append(node.fields(parent))
    return flat


def flame_tree(report: Report) -> list[dict[str, Any]]:
    """The frames of a report's stacks that hold something: the program first, and every frame after its caller.

    A function is one frame whatever its line is; a stack whose outermost frames are missing is set apart.
    """
    root = _Node(short_command(report.target) or f"pid {report.target.pid}", Kind.NONE)
    held = [stack for stack in report.stacks if stack.outstanding_bytes > 0]
    for stack in held[:MOST_STACKS]:
        node = root
        node.size += stack.outstanding_bytes
        if stack.broken or not stack.frames:
            node = node.child(CUT_SHORT if stack.frames else UNKNOWN_STACK, Kind.NONE)
            node.size += stack.outstanding_bytes
        kinds = kinds_of(stack.frames, report.verdict.function)
        for frame, kind in zip(reversed(stack.frames), reversed(kinds), strict=True):
            node = node.child(frame.name, kind, frame.module)
            node.size += stack.outstanding_bytes
            node.places[place_of(frame)] = None
    if rest := held[MOST_STACKS:]:
        left = root.child(f"[{len(rest):,} smaller stacks]", Kind.NONE)
        left.size = sum(stack.outstanding_bytes for stack in rest)
        root.size += left.size
    return _flat(root)
