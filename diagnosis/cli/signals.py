"""Ctrl-C, SIGTERM and a lost terminal (SIGHUP) end a window with a report."""

import signal
import threading
from collections.abc import Callable, Iterable
from types import FrameType


def take_signals(numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], None]) -> None:
    """Handle signals, but a SIGHUP that nohup or the shell has this process ignore: it is to outlive its terminal."""
    for number in numbers:
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def stop_on_signals() -> threading.Event:
    """An event that Ctrl-C sets. A second Ctrl-C ends without a report."""
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    take_signals((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), stop)
    return stopped
