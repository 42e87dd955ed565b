"""Names from debuginfod: by elfutils' own client, from a server of the test's own, and only where one is named."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from diagnosis.target import debug_files
from diagnosis.target.debug_files import CLIENT, DebugFiles
from tests.diagnosis.walking import symbolize
from tests.support.http_server import QuietHandler, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not shutil.which(CLIENT), reason=f"{CLIENT} is not installed (Debian: debuginfod)")

BUILD_ID = "0badcafe00"
NAMES = ["inner", "middle", "main"]


@pytest.fixture(scope="module")
def separate(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The debug information of `stripped`."""
    folder = tmp_path_factory.mktemp("debuginfod")
    subprocess.run(["objcopy", "--only-keep-debug", chain, folder / "separate"], check=True)
    subprocess.run(["objcopy", "--strip-all", chain, folder / "stripped"], check=True)
    return folder / "separate"


@pytest.fixture(scope="module")
def stripped(separate: Path) -> Path:
    return separate.with_name("stripped")


@pytest.fixture
def asked(separate: Path) -> Iterator[tuple[str, list[str]]]:
    """A server that has it, and which paths it was asked for."""
    paths: list[str] = []

    class Server(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 - the library calls it so
            paths.append(self.path)
            found = self.path == f"/buildid/{BUILD_ID}/debuginfo"
            self.answer(200 if found else 404, separate.read_bytes() if found else b"")

    with serving(Server) as address:
        yield f"http://{address}", paths


def names(program: Path, environ: dict[str, str], home: Path) -> list[str]:
    files = DebugFiles(Path("/none"), {"PATH": os.environ["PATH"], "HOME": str(home), **environ})
    return [frame.function for frame in symbolize(program, debug_files=files).frames]


def test_a_server_that_is_named_is_asked_once(stripped: Path, asked: tuple[str, list[str]], tmp_path: Path) -> None:
    """The client keeps what it has fetched."""
    url, paths = asked
    for _ in range(2):
        assert names(stripped, {"DEBUGINFOD_URLS": url}, tmp_path) == NAMES
    assert paths.count(f"/buildid/{BUILD_ID}/debuginfo") == 1


def test_no_server_is_asked_where_none_is_named(stripped: Path, asked: tuple[str, list[str]], tmp_path: Path) -> None:
    assert names(stripped, {}, tmp_path) == [""] * 3
    assert names(stripped, {"DEBUGINFOD_URLS": " "}, tmp_path) == [""] * 3
    assert asked[1] == []


def test_a_server_that_never_answers_costs_a_limited_time(
    stripped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debug_files, "FETCHING_SECONDS", 1.0)
    ends = threading.Event()

    class Server(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 - the library calls it so
            ends.wait(60)

    with serving(Server) as address:
        began = time.monotonic()
        assert names(stripped, {"DEBUGINFOD_URLS": f"http://{address}"}, tmp_path) == [""] * 3
        taken = time.monotonic() - began
        ends.set()
    assert taken < 30
