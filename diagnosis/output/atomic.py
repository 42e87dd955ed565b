"""A file is there whole, or as it was before; and what another user put in its place is not followed.

A command that is root writes into folders in which others write as well. A link that one of them left there under the
name of the file would lead root to any file of the machine. The kernel's own rule (``protected_symlinks``) holds where
a link is opened, and not where it is read, as a file that is to be replaced needs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

# What a new file may be, less what the user's umask takes away.
NEW_FILE = 0o666
# Links on the way to a file, as in the kernel.
MAX_LINKS = 40
FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def write_atomically(path: Path, text: str | bytes) -> None:
    """Write a file, text in UTF-8, by putting a finished one in its place. Its mode and its owner stay.

    What is no file of a folder (a pipe, a terminal, /dev/stdout) cannot be replaced, and is written to as it is.

    Raises:
        OSError: it cannot be written; the file is as it was. Or a link of another user's leads to it.
    """
    data = text.encode() if isinstance(text, str) else text
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            _write_as_it_is(path, data)
            return
    except FileNotFoundError:
        pass
    folder, name = _open_folder(path)
    try:
        _replace(folder, name, data)
    finally:
        os.close(folder)


def try_writing(path: Path) -> None:
    """Try what `write_atomically` will do, and leave nothing: the file stays as it is.

    A pipe is held open until this process ends: its reader would take the end of the trial for the end of the file.

    Raises:
        OSError: it could not be written now.
    """
    try:
        found = path.stat()
        if stat.S_ISFIFO(found.st_mode) or stat.S_ISSOCK(found.st_mode):
            _check_pipe(found)
            os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        elif not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if not stat.S_ISREG(found.st_mode):
            return
    except FileNotFoundError:
        pass
    folder, name = _open_folder(path)
    try:
        descriptor, new = _create(folder, name)
        os.close(descriptor)
        os.unlink(new, dir_fd=folder)
    finally:
        os.close(folder)


def _trusted() -> set[int]:
    """Whose links are followed: root's, this user's, and those of who called sudo."""
    caller = os.environ.get("SUDO_UID", "")
    return {0, os.geteuid(), *([int(caller)] if caller.isdecimal() else [])}


def _open_folder(path: Path) -> tuple[int, str]:
    """The folder that a file is in, opened, and its name there: links are followed one by one, each looked at first."""
    parts = list((Path.cwd() / path).parts[1:])
    folder, links = os.open("/", FOLDER), 0
    try:
        while True:
            name = parts.pop(0)
            try:
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                if parts:
                    raise
                return folder, name
            if stat.S_ISLNK(found.st_mode):
                links += 1
                _check_link(name, found.st_uid, links)
                target = Path(os.readlink(name, dir_fd=folder))
                if target.is_absolute():
                    folder = _moved(folder, os.open("/", FOLDER))
                parts = [*(part for part in target.parts if part != "/"), *parts]
            elif parts:
                folder = _moved(folder, os.open(name, FOLDER, dir_fd=folder))
            else:
                return folder, name
    except BaseException:
        os.close(folder)
        raise


def _check_link(name: str, owner: int, links: int) -> None:
    if links > MAX_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if owner not in _trusted():
        raise OSError(errno.EPERM, f"{name} on the way to it is a link of another user's")


def _moved(old: int, new: int) -> int:
    os.close(old)
    return new


def _replace(folder: int, name: str, data: bytes) -> None:
    """Put a new file in the place of what has its name, or of nothing."""
    try:
        before = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        before = None
    if before and not stat.S_ISREG(before.st_mode):
        raise OSError(errno.EBUSY, "it was replaced by something that is no file")
    # A file that another user left in a folder that is not his own is not his any more.
    if before and before.st_uid not in {*_trusted(), os.fstat(folder).st_uid}:
        before = None
    descriptor, new = _create(folder, name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if before:
                # Only root can give a file to somebody else: for others, it is their own from here on.
                with contextlib.suppress(PermissionError):
                    os.fchown(file.fileno(), before.st_uid, before.st_gid)
            os.fchmod(file.fileno(), before.st_mode & 0o777 if before else NEW_FILE & ~_umask())
            file.write(data)
        os.replace(new, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new, dir_fd=folder)
        raise


def _create(folder: int, name: str) -> tuple[int, str]:
    """A new file beside another one: its descriptor and its name."""
    new = f".{name[:100]}.{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(new, flags, 0o600, dir_fd=folder), new


def _check_pipe(found: os.stat_result) -> None:
    if stat.S_ISFIFO(found.st_mode) and found.st_uid not in _trusted():
        raise OSError(errno.EPERM, "it is a pipe of another user's")


def _write_as_it_is(path: Path, data: bytes) -> None:
    """Write to a pipe, a terminal or a device. One of another user's is not waited for."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode):
            raise OSError(errno.EBUSY, "it was replaced while it was opened")
        _check_pipe(found)
        os.set_blocking(descriptor, True)
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
