"""What a loader holds in the kernel, for as long as it is open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from heap_trace._heap_trace import ffi

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class TraceClosedError(RuntimeError):
    """The trace was closed."""

    def __init__(self) -> None:
        super().__init__("the trace is closed")


class KernelHandle:
    """Close it, or use it as a context manager: the probes go with it, also if the process dies."""

    def __init__(self, opened: object, close: Callable[[object], None]) -> None:
        self._opened = opened
        self._close = close

    def _open(self) -> object:
        if not self._opened:
            raise TraceClosedError
        return self._opened

    def close(self) -> None:
        """Take the probes out and free the maps. Closing twice is fine."""
        opened, self._opened = self._opened, ffi.NULL
        self._close(opened)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
