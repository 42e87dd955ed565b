"""Whose turn it is on the event loop: work of every listener gets its share, whatever the others have waiting."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

__all__ = ["Turns"]

# Each job starts a request, 0.3 ms of work: so many take 5 ms before the loop reads from its sockets again.
JOBS_A_TURN: Final = 16
# While the front has connections to accept, the loop starts so few, and lets it have the interpreter for so long in
# between. The front gives the interpreter up at each system call and gets it back when the loop makes one: without the
# pause a flood of requests kept a probe waiting for 100 ms.
JOBS_UNDER_PRESSURE: Final = 2
PAUSE_SECONDS: Final = 0.003
# A connection that has been reset is no work: 10 microseconds to find out.
LOOKS_A_TURN: Final = 64


class Turns:
    """Jobs in queues, two for each listener: new connections, and further requests of connections that have had one.

    The queues are served in turn, so 1,000 connections at one listener delay the next at another by one job. A queue of
    new connections is bounded by ``most``: what is too much is refused at once. The other one needs no bound of its
    own, since a connection is in it once at most. A job says whether there was anything to do.
    """

    def __init__(
        self, loop: AbstractEventLoop, listeners: int, most: int, pressed: Callable[[], bool] = lambda: False
    ) -> None:
        self._loop = loop
        self._most = most
        self._pressed = pressed
        self._new: list[deque[Callable[[], bool]]] = [deque() for _ in range(listeners)]
        self._further: list[deque[Callable[[], bool]]] = [deque() for _ in range(listeners)]
        self._order = [queue for pair in zip(self._new, self._further, strict=True) for queue in pair]
        self._next = 0
        self._woken = False

    def arrive(self, listener: int, job: Callable[[], bool]) -> bool:
        """Queue a new connection, from any thread. False: the queue is full, and the job is not in it."""
        queue = self._new[listener]
        if len(queue) >= self._most:
            return False
        queue.append(job)
        # Set before the loop runs and cleared before it looks: a job that comes in between is seen or wakes it again.
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._run)
        return True

    def again(self, listener: int, job: Callable[[], bool]) -> None:
        """Queue a further request, on the event loop."""
        self._further[listener].append(job)
        if not self._woken:
            self._woken = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._woken = False
        pressed = self._pressed()
        left, looked = JOBS_UNDER_PRESSURE if pressed else JOBS_A_TURN, 0
        while left and looked < LOOKS_A_TURN:
            job = self._pop()
            if job is None:
                return
            looked += 1
            left -= job()
        if pressed:
            self._woken = True
            self._loop.call_later(PAUSE_SECONDS, self._run)
        elif not self._woken:
            self._woken = True
            self._loop.call_soon(self._run)

    def _pop(self) -> Callable[[], bool] | None:
        for _ in self._order:
            queue = self._order[self._next]
            self._next = (self._next + 1) % len(self._order)
            if queue:
                return queue.popleft()
        return None
