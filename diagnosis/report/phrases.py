"""Parts of the sentences of a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnosis.base.units import KIB, MIB, format_change, format_count, format_duration, format_size
from diagnosis.report.history import BACKING, Takes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diagnosis.report.account import Account
    from diagnosis.report.history import Evidence, SiteHistory
    from diagnosis.report.unseen import Unseen

# What a sentence names of an account; less is in the table.
WORTH_A_WORD_BYTES = MIB

# Who touched this many times of what memory grew by gave most of it back.
MORE_THAN_GROWTH = 2


def name_unseen(part: Unseen, evidence: Evidence) -> str:
    """What grew that no call of an allocator explains, by how much, and who is to be named for it.

    Who touched more than the part may have touched what allocators took, too: memory as a whole says what was kept.
    """
    grown = max(part.bytes, evidence.memory_growth)
    reserved = " and ".join(f"{name_of(*each.site)} ({format_size(each.bytes)})" for each in part.reserved)
    touched = " and ".join(
        f"{name_of(*each.site)} (about {format_size(each.bytes)}{given_back(each.bytes, grown)})"
        for each in part.touched
    )
    who = ", ".join(
        f"{how} {names}" for how, names in (("reserved by", reserved), ("first touched by", touched)) if names
    )
    return f"{part.meaning} grew by {format_size(part.bytes)}{', ' if who else ''}{who}"


def given_back(touched: float, grown: int) -> str:
    """What to add to touched bytes that are many more than memory grew by."""
    return ", most of it given back" if touched > MORE_THAN_GROWTH * grown else ""


def retained(account: Account | None, site: SiteHistory) -> str:
    """A sentence where the allocator holds more freed memory than a site holds blocks: that is the larger part."""
    parts = account.anonymous if account else ()
    size = sum(part.bytes for part in parts if part.name == "retained")
    if size < max(WORTH_A_WORD_BYTES, site.held):
        return ""
    return f" {format_size(size)} of the growth in memory is freed memory that the allocator holds."


def name_of(function: str, caller: str) -> str:
    """``parse, called from handle``."""
    return f"{function}, called from {caller}" if caller else function


def subject(site: SiteHistory) -> str:
    """The same at the start of a sentence, with the comma that closes it."""
    return name_of(*site.site) + ("," if site.site.caller else "")


def rate(size: int, seconds: float) -> str:
    """``12.0 MiB a minute``."""
    return f"{format_size(size / seconds * 60)} a minute"


def leaked(site: SiteHistory, evidence: Evidence) -> str:
    """The rate of a leak; of mappings that are used in part, what of them is in memory."""
    whole = rate(site.growth, evidence.seconds)
    if site.takes is not Takes.MAPPINGS or site.resident_bytes >= BACKING * site.growth:
        return whole
    return f"{whole} of address space, {rate(site.resident_bytes, evidence.seconds)} of it in memory"


def counts(site: SiteHistory, seconds: float) -> str:
    """``12 allocations against 3 frees in 30s``, with what it did to older blocks."""
    older = f" (and {site.older_frees:,} of older blocks of its size)" if site.older_frees else ""
    moved = f" ({site.replaced:,} of them reallocs of older blocks)" if site.replaced else ""
    return (
        f"{format_count(site.allocations, 'allocation')}{moved} against {format_count(site.frees, 'free')}{older} in"
        f" {format_duration(seconds)}"
    )


def share_of_growth(size: int, evidence: Evidence) -> str:
    """A share of the growth in memory; more than all of it needs a word why."""
    growth = evidence.memory_growth
    if growth < 64 * KIB:
        return ""
    if size < growth / 100:
        return ", less than 1% of the growth in memory"
    if size <= growth * 1.02:
        return f", {min(1.0, size / growth):.0%} of the growth in memory"
    if evidence.untouched_bytes * 2 > size - growth:
        untouched = format_size(evidence.untouched_bytes)
        return (
            f", more than the {format_size(growth)} by which memory grew: {untouched} of what was taken is not touched"
            " yet, or lies in memory that was resident before"
        )
    return f", more than the {format_size(growth)} by which memory had grown when it was last read"


def holds(site: SiteHistory, evidence: Evidence) -> str:
    """What a site that grew has: blocks, or addresses that are hardly used."""
    if site.held < site.growth:
        return f"mapped {format_size(site.growth)} of address space, {format_size(site.held)} of it in memory"
    share = share_of_growth(site.growth, evidence)
    return f"holds {format_size(site.growth)} more than at the start{share}"


def not_counted(evidence: Evidence) -> str:
    """``12 events were not counted``."""
    return f"{format_count(evidence.lost, 'event')} {'was' if evidence.lost == 1 else 'were'} not counted"


def name_parts(account: Account, growth: int) -> Iterator[str]:
    """The parts of an account that are worth a word: as a share of the growth where they are within it."""
    # What is in swap is in the anonymous parts already.
    parts = [part for part in (*account.anonymous, *account.kinds) if part.name not in {"anonymous", "swapped", "live"}]
    for part in sorted(parts, key=lambda part: -abs(part.bytes)):
        if abs(part.bytes) < WORTH_A_WORD_BYTES:
            continue
        if part.name == "untouched":
            size = format_size(abs(part.bytes))
            yield f"{size} of the blocks taken are not touched yet, or lie in memory that was resident before"
        elif part.name == "ended":
            yield f"{format_size(abs(part.bytes))} of it {part.meaning}"
        elif 0 < part.bytes <= growth and part.name != "file":
            yield f"{format_size(part.bytes)} of it is {part.meaning}"
        else:
            yield format_change(part.meaning, part.bytes)
