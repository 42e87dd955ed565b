"""What a loader holds in the kernel, for as long as it is open."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Condition
from typing import TYPE_CHECKING, Any, Self

from heap_trace._heap_trace import ffi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from threading import Lock
    from types import TracebackType


class TraceClosedError(RuntimeError):
    """The trace was closed."""

    def __init__(self) -> None:
        super().__init__("the trace is closed")


class KernelHandle:
    """Close it, or use it as a context manager: the probes go with it, also if the process dies.

    Any thread may use it while another closes it: closing waits for the calls that are under way, and what comes later
    raises a `TraceClosedError`.
    """

    def __init__(self, opened: object, close: Callable[[object], None]) -> None:
        self._opened = opened
        self._close = close
        self._users = 0
        self._idle = Condition()

    @contextmanager
    def _using(self, resource: Lock | None = None) -> Iterator[Any]:
        """The opened object, which stays open meanwhile. `resource` keeps other threads from the same buffers."""
        with self._idle:
            if not self._opened:
                raise TraceClosedError
            self._users += 1
        try:
            if resource is None:
                yield self._opened
            else:
                with resource:
                    yield self._opened
        finally:
            with self._idle:
                self._users -= 1
                self._idle.notify_all()

    def close(self) -> None:
        """Detach the probes and free the maps. Closing twice is fine."""
        self._close(self._give_up())

    def _give_up(self) -> object:
        """The opened object, which is the caller's from now on: this handle is closed."""
        with self._idle:
            opened, self._opened = self._opened, ffi.NULL
            self._idle.wait_for(lambda: not self._users)
        return opened

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
