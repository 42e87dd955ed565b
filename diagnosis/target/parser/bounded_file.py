"""A file of a target: read by pread, so that one which is cut short meanwhile is an error and not a SIGBUS."""

from __future__ import annotations

import io
import os

from elftools.common.exceptions import ELFError

# In bytes, at a time.
MAX_READ = 64 << 20


class BoundedFile(io.RawIOBase):
    """A file as pyelftools reads it: by pread, never more than a bounded piece at a time."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        self._position = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As a file does."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if not 0 <= base + offset < 1 << 63:
            raise ELFError(f"an offset of {base + offset:#x}")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """As a file does."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """As a file does, up to its end.

        Raises:
            ELFError: more is asked for than may be read at a time.
        """
        left = max(0, self.size - self._position)
        wanted = left if size < 0 else min(size, left)
        if wanted > MAX_READ:
            raise ELFError(f"a piece of {wanted:,} bytes")
        found = os.pread(self._descriptor, wanted, self._position)
        self._position += len(found)
        return found

    def exactly(self, offset: int, size: int) -> bytes:
        """A piece of the file.

        Raises:
            ELFError: it is not all in the file.
        """
        self.seek(offset)
        if size > self.size or len(found := self.read(size)) != size:
            raise ELFError(f"{size:,} bytes at {offset:#x} are not all in the file")
        return found
