"""The command as a shell starts it: streams that are closed, and Ctrl-C before it has begun."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from diagnosis.cli.status import EXIT_INTERRUPTED
from tests.hostile.running import MEMLEAK_LAB, Result
from tests.hostile.test_saved import document

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_is_as_good_as_the_null_device(closed: str, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(document()))
    for words, status in ((f"report {file} --format folded", 0), (f"report {file}", 0), ("report none.json", 2)):
        done = subprocess.run(
            ["sh", "-c", f"{MEMLEAK_LAB} {words} {closed}"], capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        assert bool(done.stdout) == (status == 0 and " >&-" not in f" {closed}")


def test_ctrl_c_while_the_program_is_imported_ends_it_as_it_does_later(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    result = Result([str(MEMLEAK_LAB), "--version"], {"PYTHONPATH": str(tmp_path)})
    result.check(EXIT_INTERRUPTED)
    assert (result.out, result.err) == ("", "memleak-lab: interrupted: everything it started is gone\n")
