"""The front: one thread that accepts every connection, answers probes itself, and hands on what is more than that.

A probe that waits behind other clients' work is a probe that fails when there is enough of it. So /health takes no turn
on the event loop: accept, read, answer and close are 0.2 ms of this thread, and a connection that has sent nothing, be
it one of 10,000, costs a record and no turn at all.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from service import limits as time_limits
from service.crowd import Crowd
from service.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from service.probes import Probes

__all__ = ["Arrival", "Front", "has_gone"]

SWEEP_SECONDS: Final = 0.25
FIRST_BYTES: Final = 16 * 1024
# So many are accepted before those that are connected already are read again: 64 take 2 ms.
ACCEPTS_A_TURN: Final = 64
READS_A_TURN: Final = 64
# So many accepted in one turn are a flood: clients that come one by one are one or two.
PRESSING: Final = 8
PRESSED_SECONDS: Final = 0.1
# After an accept that fails for want of memory or descriptors that are not ours to free.
PAUSE_SECONDS: Final = 0.02
SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

REFUSED: Final = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A connection and the first bytes of it; ``listener`` is the index of the socket that it came in on."""

    client: socket.socket
    peer: str
    listener: int
    first_bytes: bytes


@dataclass(slots=True, eq=False)
class _Silent:
    client: socket.socket
    peer: str
    listener: int
    deadline: float


def has_gone(file: int, *, half: bool) -> bool:
    """Whether the peer of a connection has reset it, or, with ``half``, will not send any more."""
    if file < 0:
        return True
    poll = select.poll()
    poll.register(file, select.POLLRDHUP if half else 0)  # POLLERR and POLLHUP are reported in any case
    return bool(poll.poll(0))


class Front:
    """Serves ``listeners`` in a thread of its own, from `start` to `stop`.

    ``probes`` answers at the first listener only. ``hand_on`` is called in the front's thread with each connection that
    has begun to speak: False refuses it. ``on_failure`` is called there if the thread ends by itself.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        limits: Limits,
        probes: Probes | None,
        hand_on: Callable[[Arrival], bool],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._listeners = {listener.fileno(): (index, listener) for index, listener in enumerate(listeners)}
        self._probes = probes
        self._hand_on = hand_on
        self._on_failure = on_failure
        self._silent: Crowd[_Silent] = Crowd(limits.silent, Limits.of_one_peer(limits.silent))
        self._by_file: dict[int, _Silent] = {}
        self._first_bytes = bytearray(FIRST_BYTES)
        self._poll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # Let go of where no other descriptor is left, so that a connection can be accepted to be closed.
        self._spare: int | None = os.dup(self._wake)
        self._next_sweep = 0.0
        self._pressed_until = 0.0
        self._thread = threading.Thread(target=self._run, name="front", daemon=True)

    @property
    def pressed(self) -> bool:
        """Whether connections come faster than the event loop should be working beside; for any thread."""
        return time.monotonic() < self._pressed_until

    def start(self) -> None:
        """Accept connections."""
        self._poll.register(self._wake, select.EPOLLIN)
        for file in self._listeners:
            self._poll.register(file, select.EPOLLIN)
        self._thread.start()

    def stop(self) -> None:
        """Close the listeners and every connection that has not been handed on."""
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        for _, listener in self._listeners.values():
            listener.close()
        for silent in self._silent:
            silent.client.close()
        self._poll.close()
        for file in (self._wake, self._spare):
            if file is not None:
                os.close(file)

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException as error:  # noqa: BLE001 it is raised again where the service ends
            self._on_failure(error)

    def _turn(self) -> bool:
        """Serve whoever is ready, newcomers first. False: it is time to stop."""
        try:
            ready = [file for file, _ in self._poll.poll(SWEEP_SECONDS, READS_A_TURN)]
            if self._wake in ready:
                return False
            # A full batch says nothing of the rest: a listener may come 10,000 connections later in epoll's list.
            full = len(ready) == READS_A_TURN
            accepted = self._accept([each for file, each in self._listeners.items() if full or file in ready])
            if accepted >= PRESSING:
                self._pressed_until = time.monotonic() + PRESSED_SECONDS
            for file in ready:
                # It may have been displaced, and its number be another's by now: that one has nothing to read yet.
                if silent := self._by_file.get(file):
                    self._read(silent)
            self._sweep()
        except MemoryError:
            # What was being served is lost; what is next may need less.
            time.sleep(0)
        return True

    def _accept(self, ready: list[tuple[int, socket.socket]]) -> int:
        accepted = 0
        while ready and accepted < ACCEPTS_A_TURN:
            for index, listener in tuple(ready):
                try:
                    client, peer = listener.accept()
                except BlockingIOError:
                    ready.remove((index, listener))
                except OSError as error:  # most say that the connection has ended already
                    accepted += 1
                    if error.errno in SHORTAGES:
                        self._make_room(listener)
                        ready.remove((index, listener))
                else:
                    accepted += 1
                    self._read(_Silent(client, peer[0], index, time.monotonic() + time_limits.REQUEST_SECONDS))
        return accepted

    def _make_room(self, listener: socket.socket) -> None:
        oldest = self._silent.pop_oldest()
        if oldest is not None:
            self._close(oldest)
            return
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
        with contextlib.suppress(OSError):
            listener.accept()[0].close()
            self._spare = os.dup(self._wake)
        time.sleep(PAUSE_SECONDS)

    def _read(self, silent: _Silent) -> None:
        try:
            count = silent.client.recv_into(self._first_bytes, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            self._keep(silent)
            return
        except OSError:
            count = 0
        if count == 0:
            self._close(silent)
            return
        first_bytes = bytes(self._first_bytes[:count])
        answer = self._probes.answer(first_bytes) if self._probes and silent.listener == 0 else None
        if answer is None:
            self._forget(silent)
            # A client that has closed its own direction may wait for an answer yet. In a flood it does not get one.
            if self.pressed and has_gone(silent.client.fileno(), half=True):
                silent.client.close()
            elif not self._hand_on(Arrival(silent.client, silent.peer, silent.listener, first_bytes)):
                self._send(silent, REFUSED)
                silent.client.close()
        elif not self._send(silent, answer.response) or answer.closes:
            self._close(silent)
        else:
            silent.deadline = time.monotonic() + time_limits.KEEP_ALIVE_SECONDS
            self._keep(silent)

    @staticmethod
    def _send(silent: _Silent, response: bytes) -> bool:
        """Whether all of it has been taken: who does not read gets no more."""
        try:
            return silent.client.send(response, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) == len(response)
        except OSError:
            return False

    def _keep(self, silent: _Silent) -> None:
        file = silent.client.fileno()
        if self._by_file.get(file) is silent:
            self._silent.touch(silent)
            return
        displaced = self._silent.add(silent, silent.peer)
        if displaced is not None:
            self._close(displaced)
        self._by_file[file] = silent
        self._poll.register(file, select.EPOLLIN)

    def _forget(self, silent: _Silent) -> None:
        self._silent.discard(silent)
        file = silent.client.fileno()
        if self._by_file.get(file) is silent:
            del self._by_file[file]
            self._poll.unregister(file)

    def _close(self, silent: _Silent) -> None:
        self._forget(silent)
        silent.client.close()

    def _sweep(self) -> None:
        now = time.monotonic()
        if now < self._next_sweep:
            return
        self._next_sweep = now + SWEEP_SECONDS
        for silent in self._silent:
            if silent.deadline < now:
                self._close(silent)
