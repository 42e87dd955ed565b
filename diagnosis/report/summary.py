"""The verdict in words: who, how much, how sure, and what would decide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from diagnosis.base.units import format_count, format_duration, format_size, write_duration
from diagnosis.report.all_clear import all_clear
from diagnosis.report.history import BACKING, Takes
from diagnosis.report.phrases import (
    counts,
    holds,
    leaked,
    name_of,
    name_unseen,
    not_counted,
    rate,
    retained,
    share_of_growth,
    subject,
)
from diagnosis.report.trend import FEWEST_READINGS, Trend, trend
from diagnosis.report.unseen import most_unseen
from diagnosis.report.verdict import OLD, Answer, Doubt
from diagnosis.report.wrappers import is_for_its_caller

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diagnosis.report.account import Account
    from diagnosis.report.history import Evidence, SiteHistory
    from diagnosis.report.unseen import Touched, Unseen
    from diagnosis.report.verdict import Finding, Judged

# A window that decides is this many times longer than one that did not.
LONGER = 5

# Further sites that grow are named up to so many.
NAMED_AS_WELL = 3

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
            return _leak(finding, evidence, account)
        case Answer.GROWING:
            return _growing(finding, evidence, account)
        case Answer.NO_LEAK:
            return Verdict(Answer.NO_LEAK, "", "", all_clear(evidence, account))


def _leak(finding: Finding, evidence: Evidence, account: Account | None) -> Verdict:
    worst = finding.judged[0].site
    unseen = most_unseen(finding.unseen)
    if unseen and worst.growth < NEXT_TO_NOTHING * unseen.bytes and trend(evidence.memory) is Trend.STEADY:
        return _leak_beside(worst, unseen, evidence)
    also = _further([each for each in finding.judged[1:] if each is not finding.largest])
    also += _larger(finding.largest, evidence)
    also += f" Besides, {name_unseen(unseen, evidence)}." if unseen else ""
    also += retained(account, finding.largest.site)
    user = _user(worst, evidence)
    named = user.site if user else worst.site
    also += f" It was first touched by {name_of(*user.site)} (about {format_size(user.bytes)})." if user else ""
    return Verdict(
        Answer.LEAK,
        named.function,
        named.caller,
        f"WARNING: {subject(worst)} leaks {leaked(worst, evidence)}: {counts(worst, evidence.seconds)},"
        f" {format_size(worst.growth)} outstanding{share_of_growth(worst.growth, evidence)}.{also}"
        f" {_second_window('It grew', 'its', evidence)}",
    )


def _user(worst: SiteHistory, evidence: Evidence) -> Touched | None:
    """Who uses what a runtime maps for its own heap: the stack has none of the program's functions, as in Go."""
    if worst.takes is not Takes.MAPPINGS or not is_for_its_caller(worst.site.function):
        return None
    users = (each for each in evidence.touched if not is_for_its_caller(each.site.function))
    return next((each for each in users if each.bytes >= BACKING * worst.held), None)


def _further(judged: Sequence[Judged]) -> str:
    """The other sites that grow: the largest by name."""
    if not judged:
        return ""
    named = [
        f"{name_of(*each.site.site)} ({format_size(each.site.growth)}{'' if each.doubt else ', a leak too'})"
        for each in judged[:NAMED_AS_WELL]
    ]
    more = len(judged) - len(named)
    rest = f" and {format_count(more, 'further call site')}" if more else ""
    return f" {'; '.join(named)}{rest} grow{'s' if len(judged) == 1 else ''} as well."


def _larger(largest: Judged, evidence: Evidence) -> str:
    """The site that holds the most, where it is no leak for sure."""
    if largest.doubt is None:
        return ""
    why, _ = _doubted(largest.doubt, evidence)
    return (
        f" {subject(largest.site)} holds more, {format_size(largest.site.growth)}"
        f"{share_of_growth(largest.site.growth, evidence)}; it cannot be said that it goes on: {why}."
    )


def _leak_beside(worst: SiteHistory, unseen: Unseen, evidence: Evidence) -> Verdict:
    """A leak that is next to nothing beside what no allocator took."""
    site = unseen.site or worst.site
    return Verdict(
        Answer.LEAK,
        site.function,
        site.caller,
        f"WARNING: {name_unseen(unseen, evidence)}: {rate(unseen.bytes, evidence.seconds)}. {_NO_CALL}. Beside"
        f" it {subject(worst)} leaks {rate(worst.growth, evidence.seconds)}: {counts(worst, evidence.seconds)}."
        f" {_second_window('Both grew', 'their', evidence)}",
    )


# Memory that was taken before and is touched now counts as well.
_NO_CALL = "No call of an allocator took it in this window"


# What names the code behind a growth.
_LIGHT = "trace --light for a minute names the code that touches new memory, whoever took it"
_NAMING = {
    "memfd": "ls -l /proc/PID/fd has their names; trace --light names the code that fills them through mappings, and"
    " strace -k -e write the code that calls write()"
}


def _second_window(it_grew: str, its: str, evidence: Evidence) -> str:
    """What one window cannot tell."""
    return (
        f"{it_grew} in every part of the {format_duration(evidence.seconds)} and {its} old blocks are still there; only"
        " a second trace, later, tells it from a cache that fills as evenly."
    )


def _growing(finding: Finding, evidence: Evidence, account: Account | None) -> Verdict:
    unseen = most_unseen(finding.unseen)
    # A site with a name is worth more than bytes without one, unless it is next to nothing beside them.
    if finding.judged and finding.judged[0].doubt is Doubt.SMALL:
        return _growing_together(finding.judged, evidence)
    if finding.judged and (unseen is None or finding.judged[0].site.held * 2 > unseen.bytes):
        return _growing_site(finding, evidence, unseen, account)
    if unseen:
        site = unseen.site
        decides = "a second trace later says whether it went on" if site else _NAMING.get(unseen.kind, _LIGHT)
        return Verdict(
            Answer.GROWING,
            site.function if site else "",
            site.caller if site else "",
            f"GROWING: {name_unseen(unseen, evidence)}: {rate(unseen.bytes, evidence.seconds)}. {_NO_CALL}."
            f"{_others(finding)} What decides: {decides}.",
            decides,
        )
    if finding.heap:
        return _growing_heap(evidence)
    decides = "trace again, with fewer events: --min-size leaves small blocks out, --duration makes it shorter"
    return Verdict(
        Answer.GROWING,
        "",
        "",
        f"GROWING: memory grew by {format_size(evidence.memory_growth)} in {format_duration(evidence.seconds)}, and"
        f" {not_counted(evidence)}: what took it may be among them. What decides: {decides}.",
        decides,
    )


def _growing_heap(evidence: Evidence) -> Verdict:
    decides = f"a longer trace, {_longer(evidence)}"
    return Verdict(
        Answer.GROWING,
        "",
        "",
        f"GROWING: the live heap grew steadily, by {format_size(evidence.live_growth)} in"
        f" {format_duration(evidence.seconds)}, and memory with it, but no call site by itself: older blocks of a size"
        f" that several take were freed, and whose they were is not known. What decides: {decides}.",
        decides,
    )


def _longer(evidence: Evidence) -> str:
    return f"--duration {write_duration(max(evidence.seconds * LONGER, 30))}"


def _growing_site(finding: Finding, evidence: Evidence, unseen: Unseen | None, account: Account | None) -> Verdict:
    judged = finding.largest
    site = judged.site
    if judged.doubt is None:
        raise ValueError("a site without a doubt is a leak")
    why, decides = _doubted(judged.doubt, evidence)
    besides = f" Besides, {name_unseen(unseen, evidence)}." if unseen else ""
    besides += retained(account, site)
    return Verdict(
        Answer.GROWING,
        site.site.function,
        site.site.caller,
        f"GROWING: {subject(site)} {holds(site, evidence)}: {counts(site, evidence.seconds)}. It cannot be said that it"
        f" goes on: {why}.{besides} What decides: {decides}.",
        decides,
    )


def _growing_together(judged: Sequence[Judged], evidence: Evidence) -> Verdict:
    """Sites that are leaks together, and none of them worth a name."""
    largest, together = judged[0].site, sum(each.site.growth for each in judged)
    decides = f"--smallest-growth {format_size(largest.growth / 2).replace(' ', '')} names the largest of them"
    share = share_of_growth(together, evidence)
    return Verdict(
        Answer.GROWING,
        largest.site.function,
        largest.site.caller,
        f"GROWING: {format_count(len(judged), 'call site')} grew steadily, each by too little to be named and together"
        f" by {format_size(together)}{share}; the most, {format_size(largest.growth)}, is held by {subject(largest)}"
        f" {counts(largest, evidence.seconds)}. What decides: {decides}.",
        decides,
    )


_DOUBTS = {
    Doubt.FEW_READINGS: ("{readings} too few, {fewest} show a trend", "a longer trace, {longer}"),
    Doubt.STEPS: ("one rise brought about half of it or more", "a trace of several such rises, {longer}"),
    Doubt.LATE: ("it began within the window", "a trace that begins now, {longer}"),
    Doubt.SLOWING: ("it slows down, as a cache does that fills", "a second trace later says whether it went on"),
    Doubt.ONCE: (
        "it came in the first half of the window, and hardly a call since",
        "a second trace later says whether it comes again",
    ),
    Doubt.YOUNG: ("no block of the first {first:.0%} of the window is left, as in a queue", "a longer trace, {longer}"),
    Doubt.CHANCE: ("as much came and went meanwhile as could add up to it by chance", "a longer trace, {longer}"),
    Doubt.OTHER_SIZES: (
        "older blocks of other sizes were freed as well, which may have been its own",
        "a trace longer than its blocks live, {longer}",
    ),
    Doubt.UNSIZED: (
        "as many older blocks were freed all the time, of sizes that this allocator does not tell, maybe its own",
        "a trace longer than its blocks live, {longer}",
    ),
    Doubt.NOT_RESIDENT: (
        "it is address space, and resident memory did not grow with it",
        "resident memory in a second trace: whether the program ever touches it",
    ),
    Doubt.FRESH: (
        "processes that started in the window took most of it at first, as each does that warms up",
        "a trace of one of them, {longer}",
    ),
    Doubt.LOST: ("{lost}", "a trace that loses none: see the notes above"),
}


def _doubted(doubt: Doubt, evidence: Evidence) -> tuple[str, str]:
    """Why a site is not called a leak, and what would decide."""
    why, decides = _DOUBTS[doubt]
    values = {
        "readings": f"{format_count(evidence.readings, 'reading')} {'is' if evidence.readings == 1 else 'are'}",
        "fewest": FEWEST_READINGS,
        "first": 1 - OLD,
        "lost": not_counted(evidence),
        "longer": _longer(evidence),
    }
    return why.format(**values), decides.format(**values)


def _others(finding: Finding) -> str:
    if not finding.judged:
        return ""
    site = finding.judged[0].site
    return f" Besides, {subject(site)} holds {format_size(site.held)} more than at the start."
