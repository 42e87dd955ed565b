"""The verdict in words: who, how much, how sure, and what would decide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagnosis.base.units import KIB, MIB, format_change, format_duration, format_size
from diagnosis.report.trend import FEWEST_READINGS, Trend, trend
from diagnosis.report.unseen import most_unseen
from diagnosis.report.verdict import BACKING, OLD, Answer, Doubt, Takes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from diagnosis.report.account import Account
    from diagnosis.report.unseen import Unseen
    from diagnosis.report.verdict import Evidence, Finding, SiteHistory

# What a sentence names of an account; less is in the table.
WORTH_A_WORD_BYTES = MIB

# A window that decides is this many times longer than one that did not.
LONGER = 5

# A leak of less than this share of an unexplained growth is mentioned after it.
NEXT_TO_NOTHING = 0.1


@dataclass(frozen=True)
class Verdict:
    """What the diagnosis says: one of three answers, the function and its caller where there is one, one paragraph.

    ``decides`` says what would decide a growth; it is "" for a leak.
    """

    answer: Answer
    function: str
    caller: str
    summary: str
    decides: str = ""

    @property
    def leak(self) -> bool:
        """True for a leak."""
        return self.answer is Answer.LEAK


def summarize(finding: Finding, evidence: Evidence, account: Account | None = None) -> Verdict:
    """Put what the rule found into words."""
    match finding.answer:
        case Answer.LEAK:
            return _leak(finding, evidence)
        case Answer.GROWING:
            return _growing(finding, evidence)
        case Answer.NO_LEAK:
            return _no_leak(evidence, account)


def _leak(finding: Finding, evidence: Evidence) -> Verdict:
    worst = finding.judged[0].site
    unseen = most_unseen(finding.unseen)
    if unseen and worst.growth < NEXT_TO_NOTHING * unseen.bytes:
        return _leak_beside(worst, unseen, evidence)
    others = len(finding.judged) - 1
    also = f" {others} further call site{'s grow' if others > 1 else ' grows'} as well." if others else ""
    also += _larger(finding, evidence)
    also += f" Besides, {_unseen(unseen)}." if unseen else ""
    return Verdict(
        Answer.LEAK,
        worst.site.function,
        worst.site.caller,
        f"WARNING: {_named(worst)} leaks {_leaked(worst, evidence)}: {_counts(worst, evidence.seconds)},"
        f" {format_size(worst.growth)} outstanding{_share(worst.growth, evidence.memory_growth)}.{also}"
        f" {_second_window(evidence)}",
    )


def _larger(finding: Finding, evidence: Evidence) -> str:
    """The site that holds more than a leak does, and is none for sure."""
    largest = max(finding.judged, key=lambda each: each.site.growth)
    if largest.doubt is None:
        return ""
    why, _ = _doubted(largest.doubt, evidence)
    return (
        f" {_named(largest.site)} holds more, {format_size(largest.site.growth)}"
        f"{_share(largest.site.growth, evidence.memory_growth)}; it cannot be said that it goes on: {why}."
    )


def _leak_beside(worst: SiteHistory, unseen: Unseen, evidence: Evidence) -> Verdict:
    """A leak that is next to nothing beside what no allocator took."""
    site = unseen.site or worst.site
    return Verdict(
        Answer.LEAK,
        site.function,
        site.caller,
        f"WARNING: {_unseen(unseen)}: {_rate(unseen.bytes, evidence.seconds)}. No call of an allocator took it. Beside"
        f" it {_named(worst)} leaks {_rate(worst.growth, evidence.seconds)}: {_counts(worst, evidence.seconds)}."
        f" {_second_window(evidence)}",
    )


def _second_window(evidence: Evidence) -> str:
    """What one window cannot tell."""
    return (
        f"It grew in every part of the {format_duration(evidence.seconds)} and its old blocks are still there; only a"
        " second trace, later, tells it from a cache that fills as evenly."
    )


def _growing(finding: Finding, evidence: Evidence) -> Verdict:
    unseen = most_unseen(finding.unseen)
    # A site with a name is worth more than bytes without one, unless it is next to nothing beside them.
    if finding.judged and (unseen is None or finding.judged[0].site.growth * 2 > unseen.bytes):
        return _growing_site(finding, evidence, unseen)
    if unseen:
        site = unseen.site
        decides = (
            "a second trace later says whether it went on"
            if site
            else "trace --light for a minute names the code that touches new memory, whoever took it"
        )
        return Verdict(
            Answer.GROWING,
            site.function if site else "",
            site.caller if site else "",
            f"GROWING: {_unseen(unseen)}: {_rate(unseen.bytes, evidence.seconds)}. No call of an allocator took it."
            f"{_others(finding)} What decides: {decides}.",
            decides,
        )
    decides = "trace again, with fewer events: --min-size leaves small blocks out, --duration makes it shorter"
    return Verdict(
        Answer.GROWING,
        "",
        "",
        f"GROWING: memory grew by {format_size(evidence.memory_growth)} in {format_duration(evidence.seconds)}, and"
        f" {evidence.lost:,} events were not counted: what took it may be among them. What decides: {decides}.",
        decides,
    )


def _growing_site(finding: Finding, evidence: Evidence, unseen: Unseen | None) -> Verdict:
    judged = max(finding.judged, key=lambda each: each.site.growth)
    site = judged.site
    if judged.doubt is None:
        raise ValueError("a site without a doubt is a leak")
    why, decides = _doubted(judged.doubt, evidence)
    besides = f" Besides, {_unseen(unseen)}." if unseen else ""
    return Verdict(
        Answer.GROWING,
        site.site.function,
        site.site.caller,
        f"GROWING: {_named(site)} holds {format_size(site.growth)} more than at the start"
        f"{_share(site.growth, evidence.memory_growth)}: {_counts(site, evidence.seconds)}. It cannot be said that it"
        f" goes on: {why}.{besides} What decides: {decides}.",
        decides,
    )


_DOUBTS = {
    Doubt.FEW_READINGS: ("{readings} readings are too few, {fewest} show a trend", "a longer trace, {longer}"),
    Doubt.STEPS: ("one rise brought about half of it or more", "a trace of several such rises, {longer}"),
    Doubt.LATE: ("it began within the window", "a trace that begins now, {longer}"),
    Doubt.SLOWING: ("it slows down, as a cache does that fills", "a second trace later says whether it went on"),
    Doubt.ONCE: (
        "it came in the first half of the window, and hardly a call since",
        "a second trace later says whether it comes again",
    ),
    Doubt.YOUNG: ("no block of the first {first:.0%} of the window is left, as in a queue", "a longer trace, {longer}"),
    Doubt.CHANCE: ("as much came and went meanwhile as could add up to it by chance", "a longer trace, {longer}"),
    Doubt.NOT_RESIDENT: (
        "it is address space, and resident memory did not grow with it",
        "resident memory in a second trace: whether the program ever touches it",
    ),
    Doubt.LOST: ("{lost:,} events were not counted", "a trace that loses none: see the notes above"),
}


def _doubted(doubt: Doubt, evidence: Evidence) -> tuple[str, str]:
    """Why a site is not called a leak, and what would decide."""
    why, decides = _DOUBTS[doubt]
    values = {
        "readings": evidence.readings,
        "fewest": FEWEST_READINGS,
        "first": 1 - OLD,
        "lost": evidence.lost,
        "longer": f"--duration {round(max(evidence.seconds * LONGER, 30)):d}s",
    }
    return why.format(**values), decides.format(**values)


def _no_leak(evidence: Evidence, account: Account | None) -> Verdict:
    seconds = format_duration(evidence.seconds)
    allocations = sum(site.allocations for site in evidence.sites)
    frees = sum(site.frees for site in evidence.sites)
    older = evidence.older_frees
    if not allocations:
        seen = f"not one allocation was seen in {seconds}: trace for longer, or while the process works"
    else:
        lost = "every event was counted" if not evidence.lost else f"{evidence.lost:,} events were not counted"
        of_older = f", {older:,} of them of older blocks," if older else ""
        seen = (
            f"{allocations:,} allocations and {frees + older:,} frees{of_older} were seen in {seconds} and {lost};"
            f" no call site kept growing{_most(evidence)}"
        )
        if evidence.readings < FEWEST_READINGS:
            seen += f", in {evidence.readings} readings only"
    explained = "; ".join(_explained(account, evidence.memory_growth)) if account else ""
    changed = format_change("memory", evidence.memory_growth) + (f" ({explained})" if explained else "")
    return Verdict(
        Answer.NO_LEAK,
        "",
        "",
        f"No leak found: {seen}; {changed}. A slower leak shows in a longer window.",
    )


def _most(evidence: Evidence) -> str:
    most = max(evidence.sites, key=lambda site: site.growth)
    if most.growth <= 0:
        return ""
    of = " of address space" if most.takes is Takes.FILES else ""
    files = ", mappings of files" if most.takes is Takes.FILES else ""
    ended = ", which no longer grew at the end" if trend(most.outstanding) is Trend.ENDED else ""
    return f" (the most, {format_size(most.growth)}{of}{files}, is held by {most.site.function}{ended})"


def _explained(account: Account, growth: int) -> Iterator[str]:
    """The parts of an account that are worth a word: as a share of the growth where they are within it."""
    parts = [part for part in (*account.anonymous, *account.kinds) if part.name not in {"anonymous", "live"}]
    for part in sorted(parts, key=lambda part: -abs(part.bytes)):
        if abs(part.bytes) < WORTH_A_WORD_BYTES:
            continue
        if part.name == "untouched":
            size = format_size(abs(part.bytes))
            yield f"{size} of the blocks taken are not touched yet, or lie in memory that was resident before"
        elif 0 < part.bytes <= growth and part.name != "file":
            yield f"{format_size(part.bytes)} of it is {part.meaning}"
        else:
            yield format_change(part.meaning, part.bytes)


def _unseen(part: Unseen) -> str:
    reserved = " and ".join(f"{_site(*each.site)} ({format_size(each.bytes)})" for each in part.reserved)
    touched = " and ".join(f"{_site(*each.site)} (about {format_size(each.bytes)})" for each in part.touched)
    who = ", ".join(
        f"{how} {names}" for how, names in (("reserved by", reserved), ("first touched by", touched)) if names
    )
    return f"{part.meaning} grew by {format_size(part.bytes)}{', ' if who else ''}{who}"


def _others(finding: Finding) -> str:
    if not finding.judged:
        return ""
    site = finding.judged[0].site
    return f" Besides, {_named(site)} holds {format_size(site.growth)} more than at the start."


def _site(function: str, caller: str) -> str:
    return f"{function}, called from {caller}" if caller else function


def _named(site: SiteHistory) -> str:
    return _site(*site.site) + ("," if site.site.caller else "")


def _rate(size: int, seconds: float) -> str:
    return f"{format_size(size / seconds * 60)} a minute"


def _leaked(site: SiteHistory, evidence: Evidence) -> str:
    """The rate of a leak; of mappings that are used in part, what of them is in memory."""
    rate = _rate(site.growth, evidence.seconds)
    if site.takes is not Takes.MAPPINGS or site.resident_bytes >= BACKING * site.growth:
        return rate
    return f"{rate} of address space, {_rate(site.resident_bytes, evidence.seconds)} of it in memory"


def _counts(site: SiteHistory, seconds: float) -> str:
    older = f" (and {site.older_frees:,} of older blocks of its size)" if site.older_frees else ""
    moved = f" ({site.replaced:,} of them reallocs of older blocks)" if site.replaced else ""
    return f"{site.allocations:,} allocations{moved} against {site.frees:,} frees{older} in {format_duration(seconds)}"


def _share(size: int, growth: int) -> str:
    """A share of the growth in memory; more than all of it needs a word why."""
    if growth < 64 * KIB:
        return ""
    if size <= growth * 1.02:
        return f", {min(1.0, size / growth):.0%} of the growth in memory"
    return (
        f", more than the {format_size(growth)} by which memory grew: the rest is not touched yet, or lies in memory"
        " that was resident before"
    )
