"""A trial of a rebuilt cache: are requests still answered right, also while old entries are freed?

The service runs beside the lab's, as fast as it can, with freed memory filled (``MALLOC_PERTURB_``), so that an entry
that was freed too early does not look as if it were there. What it answers is compared with its ledger: an item's
revision is that of a refresh between the readings before and after the request.
"""

from __future__ import annotations

import enum
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from diagnosis.base.errors import LabError
from diagnosis.learn.catalog import CatalogService

if TYPE_CHECKING:
    from diagnosis.lab.unprivileged import User
    from diagnosis.learn.catalog import Build

__all__ = ["Answers", "Trial", "try_build"]

# Thirty minutes of the story, from which on a lookup reads every revision that is held, take 3 s.
SPEED = 600.0
DEGRADED_SECONDS = 31 * 60.0

# malloc(3) fills what is freed with this byte: as an address it is none that a process can have.
PERTURB = "165"
LOOKUPS_AT_LEAST = 100
ANSWER_SECONDS = 5.0
CAP_SHARE = 0.9
# On a machine that is busy with other things.
LONGEST_SECONDS = 60.0


class Answers(enum.StrEnum):
    """How the rebuilt service answers."""

    RIGHT = "right"
    WRONG = "wrong"  # another revision than the ledger has
    CRASHED = "crashed"
    HANGS = "hangs"


@dataclass(frozen=True)
class Trial:
    """What came of it. ``detail`` is the first wrong answer, or the signal; ``lookups`` were answered right."""

    answers: Answers
    lookups: int
    detail: str = ""


def try_build(build: Build, user: User, speed: float = SPEED) -> Trial:
    """Start a service with the build, ask it for items until its lookups read every revision, and stop it."""
    with ExitStack() as stack:
        settings = {"MALLOC_PERTURB_": PERTURB}
        try:
            service = stack.enter_context(CatalogService(speed, user, build, settings=settings, visitors=False))
        except LabError as error:
            return Trial(Answers.CRASHED, 0, error.what)
        client = stack.enter_context(
            httpx.Client(base_url=f"http://{service.at.http}", timeout=ANSWER_SECONDS, trust_env=False)
        )
        return _ask(service, client)


def _ask(service: CatalogService, client: httpx.Client) -> Trial:
    right, item, until = 0, 0, time.monotonic() + LONGEST_SECONDS
    story, room = 0.0, True
    while (story < DEGRADED_SECONDS or right < LOOKUPS_AT_LEAST) and room and time.monotonic() < until:
        try:
            before = service.ledger.read()
            answer = client.get(f"/api/items/{item}")
            after = service.ledger.read()
        except (httpx.TimeoutException, httpx.TransportError, LabError) as error:
            return _silent(service, right, error)
        # At its cap the cache takes nothing new, and its answers are old without being wrong.
        story, room = after.elapsed_seconds, after.insert_bytes < CAP_SHARE * after.cap_bytes
        item += 1
        if before.refreshes == 0:
            continue
        # While a refresh is under way, the pages that it has come to are newer than the ledger's count.
        revision = answer.json().get("revision") if answer.status_code == httpx.codes.OK else answer.status_code
        if revision not in range(before.refreshes, after.refreshes + 2):
            return Trial(Answers.WRONG, right, f"{revision} ({before.refreshes} .. {after.refreshes + 1})")
        right += 1
    return Trial(Answers.RIGHT, right)


def _silent(service: CatalogService, right: int, error: Exception) -> Trial:
    """It does not answer: it crashed just now, or it hangs."""
    until = time.monotonic() + 1.0
    while not (ended := service.ended()) and time.monotonic() < until:
        time.sleep(0.01)
    if ended:
        return Trial(Answers.CRASHED, right, ended)
    return Trial(Answers.HANGS, right, type(error).__name__)
