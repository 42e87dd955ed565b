"""Call frame information as symbolic writes it, and room for its rows."""

from __future__ import annotations

from heap_trace.unwind import Capacity, Rule, RuleKind

NONE = Rule(RuleKind.NONE)
ROOM = Capacity(1 << 18, 1 << 16, 1 << 12)


def text(*lines: str) -> bytes:
    return "\n".join(f"STACK CFI {line}" for line in lines).encode()


PUSHES = text(
    "INIT 1000 40 .cfa: $rsp 8 + .ra: .cfa -8 + ^",
    "1001 .cfa: $rsp 16 + $rbp: .cfa -16 + ^",
    "1004 .cfa: $rbp 16 +",
    "103f .cfa: $rsp 8 +",
)
