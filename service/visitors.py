"""`python -m service.visitors`: a small, steady load of lookups, so that the dashboards live."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from typing import TYPE_CHECKING

import httpx

from service.catalog import ITEMS
from service.config import ConfigError, VisitorsConfig
from service.events import emit, open_standard_files, report_error

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWER_SECONDS = 5.0
# A service that has become slow gets no more requests than this before it has answered one.
UNDER_WAY = 32
LOOKUPS_TO_ONE_INDEX = 19
FIRST_RETRY_SECONDS = 0.25
LONGEST_RETRY_SECONDS = 5.0


def paths(source: random.Random) -> Iterator[str]:
    """What visitors ask for, without end: items at random, and now and then the front page."""
    while True:
        for _ in range(LOOKUPS_TO_ONE_INDEX):
            yield f"/api/items/{source.randrange(ITEMS)}"
        yield "/"


class Visitors:
    """Requests at a steady rate. While the service is away: one at a time, at growing intervals."""

    def __init__(self, client: httpx.AsyncClient, per_second: float, source: random.Random) -> None:
        self._client = client
        self._interval = 1 / per_second
        self._paths = paths(source)
        self._away = False
        self._returns = 0
        self._under_way = 0

    async def run(self) -> None:
        """Visit until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        async with asyncio.TaskGroup() as visits:
            while True:
                if self._away:
                    await self._wait_for_service()
                elif self._under_way < UNDER_WAY:
                    visits.create_task(self._visit())
                # After a pause the visits that were missed are not made up for.
                due = max(due + self._interval, loop.time())
                await asyncio.sleep(due - loop.time())

    async def _visit(self) -> None:
        returns_at_start = self._returns
        self._under_way += 1
        try:
            await self._client.get(next(self._paths))
        except httpx.TransportError as error:
            # A visit from before the service came back may fail after it: that is no news.
            if not self._away and returns_at_start == self._returns:
                self._away = True
                emit("away", reason=f"{type(error).__name__}: {error}")
        finally:
            self._under_way -= 1

    async def _wait_for_service(self) -> None:
        pause = FIRST_RETRY_SECONDS
        while self._away:
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_RETRY_SECONDS)
            try:
                await self._client.get("/ready")
            except httpx.TransportError:
                continue
            self._away = False
            self._returns += 1
            emit("back")


async def visit(config: VisitorsConfig) -> None:
    """Visit until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    # The target is in the same network: a proxy from the environment is for other destinations.
    async with httpx.AsyncClient(base_url=config.target_url, timeout=ANSWER_SECONDS, trust_env=False) as client:
        visits = asyncio.create_task(Visitors(client, config.visitors_per_second, random.Random()).run())  # noqa: S311 no secret
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, visits.cancel)
        emit("visiting", target=config.target_url, per_second=config.visitors_per_second, pid=os.getpid())
        await asyncio.wait([visits])
        if not visits.cancelled():
            visits.result()


def main() -> int:
    """Run the visitors: exit status 0 after a stop, 2 if the configuration is wrong."""
    open_standard_files()
    try:
        config = VisitorsConfig.from_environ(os.environ)
    except ConfigError as error:
        report_error("visitors", error)
        return 2
    asyncio.run(visit(config))
    return 0


if __name__ == "__main__":
    sys.exit(main())
