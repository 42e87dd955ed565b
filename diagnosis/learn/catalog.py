"""The catalog service as the learner's subject: held open with its visitors, rebuilt from an edited source."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Final

from catalog_cache import Options

from diagnosis.base.closing import Closing
from diagnosis.base.errors import LabError
from diagnosis.lab.child import PROJECT, Child
from diagnosis.lab.claims import ClaimsClient
from diagnosis.lab.grade import LEAKING_FUNCTION
from diagnosis.lab.ledger import LedgerClient
from diagnosis.lab.service_env import service_environ, visitors_environ
from diagnosis.lab.unprivileged import choose_user
from diagnosis.learn.compiling import compile_in, hand_over
from diagnosis.learn.owner import as_owner, read_own
from diagnosis.learn.patching import is_applied, run_patch
from diagnosis.learn.state import write_new
from diagnosis.target.process import Process

if TYPE_CHECKING:
    from diagnosis.lab.unprivileged import User

__all__ = ["PATCH", "SOURCE", "Addresses", "Build", "CatalogService", "apply_patch", "copy_source", "leaking_line"]

NATIVE: Final = PROJECT / "native" / "leak"
SOURCE: Final = NATIVE / "src" / "catalog_cache.c"
PATCH: Final = Path(__file__).with_name("catalog_cache.patch")

# The ports that the documents name: taken where they are free.
PORTS: Final = {"LAB_HTTP_PORT": 8080, "LAB_METRICS_PORT": 9090, "LAB_LEDGER_PORT": 9091}

# What the compiler says of a source is cut: the first error counts.
SHOWN_LINES = 12


def copy_source(folder: Path) -> Path:
    """Put the C file into a folder, to be edited there; one that is there already stays.

    Raises:
        LabError: it cannot be written.
    """
    copy = folder / SOURCE.name
    with as_owner(folder):
        is_there = os.path.lexists(copy)
    if not is_there:
        write_new(copy, SOURCE.read_text())
    return copy


def apply_patch(source: Path, patch: Path = PATCH) -> None:
    """Apply a patch to a source.

    Raises:
        LabError: it is applied already, or does not fit what was edited: nothing is changed then.
    """
    if not run_patch(source.parent, patch, str(source)).returncode:
        return
    if is_applied(source.parent, patch, str(source)):
        raise LabError(f"the patch is applied to {source} already", "type check")
    again = f"cp {quote(str(SOURCE))} {quote(str(source))}"
    raise LabError(f"the patch does not fit {source}: it was edited", f"begin with the file as it was: {again}")


def leaking_line(source: Path = SOURCE) -> int:
    """The line, from 1, on which the leaking function allocates."""
    lines = source.read_text().split("\n")
    start = next(n for n, line in enumerate(lines) if re.match(rf"\S.*\b{LEAKING_FUNCTION}\(", line))
    return next(n for n, line in enumerate(lines[start:], start + 1) if "malloc(" in line)


class Build(Closing):
    """The native package, compiled from an edited source by its own build. Use it as a context manager.

    It lies in a folder that every user can enter, for the service is nobody; the learner's own may be closed.

    Args:
        source: the edited C file.
        user: the user that compiles it, and runs it; None for the unprivileged one.

    Raises:
        LabError: the compiler does not take it; the text holds what it said.
    """

    def __init__(self, source: Path, user: User | None = None) -> None:
        self.text = read_own(source)
        self._whole = Path(tempfile.mkdtemp(prefix="memleak-lab-build-"))
        self.folder = self._whole / "build"
        try:
            self._compile(user or choose_user(os.environ, os.geteuid()))
        except BaseException:
            self.close()
            raise

    def _compile(self, user: User) -> None:
        self.folder.mkdir()
        for name in ("setup.py", "pyproject.toml", "build_catalog_cache.py"):
            shutil.copyfile(NATIVE / name, self.folder / name)
        shutil.copytree(NATIVE / "src", self.folder / "src", ignore=shutil.ignore_patterns("*.so", "*.egg-info", "__*"))
        # As a package has its own modules; __init__ alone begins with two underscores and is wanted.
        package = Path("src", "catalog_cache", "__init__.py")
        shutil.copyfile(NATIVE / package, self.folder / package)
        (self.folder / "src" / SOURCE.name).write_text(self.text)
        hand_over(self.folder, user)
        done = compile_in(
            self.folder, [sys.executable, "setup.py", "-q", "build_ext", "--inplace"], user, "gcc libc6-dev"
        )
        if done.returncode:
            # What setuptools says of the command that failed is no help.
            said = [line for line in done.stderr.splitlines() if not line.startswith("error: Command ")]
            errors = [line for line in said if "error" in line] or said
            raise LabError(f"{SOURCE.name} does not compile", "\n".join(errors[:SHOWN_LINES]))

    @property
    def environ(self) -> dict[str, str]:
        """What has a Python find this build, and not the installed one."""
        return {"PYTHONPATH": os.pathsep.join([str(self.folder / "src"), str(PROJECT)])}

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self._whole, ignore_errors=True)


@dataclass(frozen=True)
class Addresses:
    """Where a service listens: HOST:PORT each, and the ledger's URL."""

    http: str
    metrics: str
    ledger: str


class CatalogService(Closing):
    """The service and its visitors. Use it as a context manager.

    Args:
        speed: times its own pace.
        user: the user that they run as.
        build: the library that it uses; None for the installed one.
        fixed_ports: take the ports that the documents name, where they are free.
        settings: further environment variables.
        visitors: whether there are any.
    """

    def __init__(
        self,
        speed: float,
        user: User,
        build: Build | None = None,
        *,
        fixed_ports: bool = False,
        settings: dict[str, str] | None = None,
        visitors: bool = True,
    ) -> None:
        environ = service_environ(speed=speed, chunk_bytes=Options().chunk_bytes, cap_bytes=Options().cap_bytes)
        environ |= {name: str(port) for name, port in PORTS.items() if fixed_ports and _is_free(port)}
        environ |= build.environ if build else {}
        with ExitStack() as stack:
            self._service = stack.enter_context(Child("service", environ | (settings or {}), user))
            event = self._service.first_event()
            self.at = Addresses(str(event["http"]), str(event["metrics"]), f"http://{event['ledger']}/ledger")
            self.process = Process(self._service.pid)
            self.claims = ClaimsClient(self.at.http, self.at.metrics)
            stack.callback(self.claims.close)
            self.ledger = LedgerClient(self.at.ledger)
            stack.callback(self.ledger.close)
            if visitors:
                stack.enter_context(Child("service.visitors", visitors_environ(self.at.http), user))
            self._stack = stack.pop_all()

    @property
    def pid(self) -> int:
        """The process that leaks, or did."""
        return self._service.pid

    def ended(self) -> str:
        """How it ended: a signal's name, or a status; "" while it runs."""
        try:
            self._service.check()
        except LabError as error:
            number = re.search(r"status (-?\d+)", error.what)
            return signal.Signals(-int(number[1])).name if number and int(number[1]) < 0 else error.what
        return ""

    def close(self) -> None:
        """Stop both."""
        self._stack.close()


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
