"""A call stack with names: what addresses become, and what everything after it reads."""

from __future__ import annotations

from dataclasses import dataclass

from heap_trace import MAX_FRAMES, Ending

from diagnosis.target.libc import is_c_runtime
from diagnosis.target.start import START_FUNCTIONS


@dataclass(frozen=True)
class Frame:
    """One frame. ``function``, ``file`` are "" and ``line`` is 0 where the object does not say.

    ``python`` is True for a Python function, whose module is the interpreter that ran it; ``interpreter`` for native
    code of the interpreter and of the extensions that come with it; ``packaged`` for code of a shared library in one of
    the system's folders.
    """

    function: str
    module: str
    file: str
    line: int
    offset: int
    python: bool = False
    interpreter: bool = False
    packaged: bool = False

    @property
    def name(self) -> str:
        """The function, or the module and the offset of the return address in its file."""
        return self.function or f"{self.module or 'unknown'}+{self.offset:#x}"

    @property
    def file_name(self) -> str:
        """The file of the source, without its folder."""
        return self.file.rpartition("/")[2]


@dataclass(frozen=True)
class SymbolizedStack:
    """Frames, innermost first. ``broken`` where unwinding left the code, ``depth`` the addresses that were taken.

    ``ending`` is what the walk itself says of its end: by frame pointers it does not know. ``others`` are the files
    that were mapped at its addresses as well, at another time: the stack can be of their code.
    """

    frames: tuple[Frame, ...]
    broken: bool
    depth: int
    ending: Ending = Ending.UNKNOWN
    others: tuple[str, ...] = ()

    @property
    def too_deep(self) -> bool:
        """True where there was no room for the outermost frames."""
        return self.ending is Ending.TOO_DEEP or (self.depth >= MAX_FRAMES and self.ending is not Ending.START)

    @property
    def cut_short(self) -> bool:
        """True where frames are missing before the code that starts a thread, and not for want of room."""
        if self.ending is not Ending.UNKNOWN:
            return self.ending not in (Ending.START, Ending.TOO_DEEP)
        if self.broken or len(self.frames) < 2:
            return True
        if self.too_deep:
            return False
        outermost = self.frames[-1]
        return not (outermost.function in START_FUNCTIONS or is_c_runtime(outermost.module))
