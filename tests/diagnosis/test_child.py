from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from diagnosis.base.errors import LabError
from diagnosis.lab import child
from diagnosis.lab.child import PROJECT, Child
from diagnosis.lab.service_env import FREE_PORTS
from diagnosis.lab.unprivileged import User, choose_user
from diagnosis.target.process import Process
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

# Whoever runs the tests: the launcher for another user has tests of its own.
ME = User("me", os.geteuid(), os.getegid())

LISTENING = "import json; print(json.dumps({'event': 'listening', 'pid': __import__('os').getpid()}), flush=True)\n"
READY = "print('{}', flush=True)\n"


def started(folder: Path, code: str, settings: Mapping[str, str] | None = None) -> Child:
    """A child that runs this code as the module ``sample``."""
    (folder / "sample.py").write_text(code)
    return Child("sample", {"PYTHONPATH": f"{PROJECT}:{folder}", **(settings or {})}, ME)


def test_the_first_line_is_an_event(tmp_path: Path) -> None:
    with started(tmp_path, LISTENING + "input()") as process:
        assert process.first_event() == {"event": "listening", "pid": process.pid}


def test_settings_reach_the_module_and_nothing_of_the_caller_s_environment_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_SPEED", "of the caller")
    code = "import json, os; print(json.dumps(dict(os.environ)), flush=True)"
    with started(tmp_path, code, {"LAB_CHUNK_BYTES": "4096"}) as process:
        event = process.first_event()
    assert event["LAB_CHUNK_BYTES"] == "4096"
    assert "LAB_SPEED" not in event


def test_a_module_of_the_current_folder_does_not_get_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "modules"
    folder.mkdir()
    with started(folder, LISTENING) as process:
        assert process.first_event()["event"] == "listening"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise SystemExit('LAB_SPEED is fast')", "LAB_SPEED is fast"),
        ("import nothing_of_the_kind", "ModuleNotFoundError: No module named 'nothing_of_the_kind'"),
        ("", "it printed nothing"),
        ("import sys, time; print('unwell', file=sys.stderr); print('hello', flush=True); time.sleep(60)", "unwell"),
        ("print('hello', flush=True)", r"it printed b'hello\n'"),
        ("print('[1]', flush=True)", r"it printed b'[1]\n'"),
    ],
)
def test_a_module_that_does_not_start_says_why(tmp_path: Path, code: str, said: str) -> None:
    with started(tmp_path, code) as process, pytest.raises(LabError, match=r"^sample did not start: ") as caught:
        process.first_event()
    assert said in str(caught.value)


def test_a_module_that_says_nothing_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "START_SECONDS", 0.05)
    with started(tmp_path, "import time; time.sleep(60)") as process:
        with pytest.raises(LabError, match="sample did not start: it printed nothing"):
            process.first_event()
        assert Process(process.pid).alive()


def test_a_real_service_with_a_wrong_setting_says_which() -> None:
    with Child("service", {"LAB_SPEED": "0"}, ME) as process, pytest.raises(LabError) as caught:
        process.first_event()
    assert str(caught.value).startswith("service did not start: service: LAB_SPEED is '0': ")
    assert "\n" not in str(caught.value)


def test_a_child_that_ends_on_its_own_is_noticed(tmp_path: Path) -> None:
    code = READY + "import sys; sys.stderr.write('out of luck'); sys.exit(3)"
    with started(tmp_path, code) as process:
        process.first_event()
        wait_until(lambda: not Process(process.pid).alive(), "the child ends")
        with pytest.raises(LabError, match="sample ended with status 3: out of luck"):
            process.check()


def test_a_running_child_passes_the_check(tmp_path: Path) -> None:
    with started(tmp_path, READY + "import time; time.sleep(60)") as process:
        process.first_event()
        process.check()


def test_at_the_end_the_child_is_asked_to_stop(tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"
    code = (
        "import pathlib, signal, sys, time\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path({str(stopped)!r}).touch(), sys.exit(0)))\n"
        f"{READY}time.sleep(60)"
    )
    with started(tmp_path, code) as process:
        process.first_event()
    assert stopped.exists()
    assert not Path(f"/proc/{process.pid}").exists(), "it was waited for as well"


def test_a_child_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "STOP_SECONDS", 0.05)
    code = f"import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{READY}time.sleep(600)"
    with started(tmp_path, code) as process:
        process.first_event()
    assert not Path(f"/proc/{process.pid}").exists()


def test_a_child_is_stopped_when_its_user_fails(tmp_path: Path) -> None:
    process = started(tmp_path, "print('no event', flush=True); import time; time.sleep(60)")
    with pytest.raises(LabError, match="did not start"), process:
        process.first_event()
    assert not Path(f"/proc/{process.pid}").exists()


def test_stopping_twice_is_fine(tmp_path: Path) -> None:
    with started(tmp_path, READY) as process:
        process.first_event()
        process.stop()


def test_ctrl_c_on_the_terminal_does_not_reach_a_child(tmp_path: Path) -> None:
    """It goes to the foreground's process group: the run decides in which order its parts end."""
    with started(tmp_path, READY + "import time; time.sleep(60)") as process:
        process.first_event()
        assert os.getpgid(process.pid) == process.pid != os.getpgid(0)
        assert os.getsid(process.pid) != os.getsid(0)


@pytest.mark.root
def test_the_service_of_root_runs_as_nobody() -> None:
    with Child("service", FREE_PORTS, choose_user({}, 0)) as process:
        assert process.first_event()["pid"] == process.pid
        assert Path(f"/proc/{process.pid}").stat().st_uid == choose_user({}, 0).uid
        os.kill(process.pid, signal.SIGTERM)
