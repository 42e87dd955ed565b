"""The account of memory in a report that was printed as JSON."""

from __future__ import annotations

from typing import Any


def part(report: dict[str, Any], name: str) -> int:
    """The bytes of a part of the account, or of a kind."""
    account = report["account"]
    return sum(each["bytes"] for each in (*account["kinds"], *account["anonymous"]) if each["name"] == name)


def assert_adds_up(report: dict[str, Any]) -> None:
    """The parts are the whole."""
    parts = sum(each["bytes"] for each in report["account"]["anonymous"])
    assert parts == part(report, "anonymous") + part(report, "swapped")
