from __future__ import annotations

import json
import os
import pwd
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from diagnosis.base.errors import LabError
from diagnosis.lab import unprivileged
from diagnosis.lab.child import PROJECT
from diagnosis.lab.unprivileged import User, choose_user, closed_ancestors, command_as
from diagnosis.target.process import Process
from tests.support.waiting import LIMIT_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = pwd.getpwnam("nobody")
OTHER = os.getuid() + 1


# --- whom ---


def test_root_alone_gives_way_to_nobody() -> None:
    assert choose_user({}, euid=0) == User("nobody", NOBODY.pw_uid, NOBODY.pw_gid)


def test_who_called_sudo_is_chosen() -> None:
    somebody = pwd.getpwnam("daemon")
    assert choose_user({"SUDO_UID": str(somebody.pw_uid)}, euid=0) == User("daemon", somebody.pw_uid, somebody.pw_gid)


def test_root_who_called_sudo_gives_way_to_nobody() -> None:
    assert choose_user({"SUDO_UID": "0"}, euid=0).name == "nobody"


def test_a_plain_user_stays_who_he_is_whatever_the_environment_says() -> None:
    somebody = pwd.getpwnam("daemon")
    assert choose_user({"SUDO_UID": str(NOBODY.pw_uid)}, euid=somebody.pw_uid).name == "daemon"


@pytest.mark.parametrize("uid", ["3999999999", "me"])
def test_a_user_that_the_machine_does_not_know_is_one_line(uid: str) -> None:
    with pytest.raises(LabError, match="no unprivileged user") as caught:
        choose_user({"SUDO_UID": uid}, euid=0)
    assert "\n" not in str(caught.value)


def test_a_command_of_the_same_user_needs_no_launcher() -> None:
    same = User("me", os.geteuid(), os.getegid())
    assert command_as(same, Path("/srv"), ["/bin/true", "-x"]) == ["/bin/true", "-x"]


# --- what is closed ---


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """home/closed/lab and home/open/lab, with home open to everybody."""
    home = tmp_path / "home"
    for name in ("closed", "open"):
        (home / name / "lab").mkdir(parents=True)
    home.chmod(0o755)
    (home / "closed").chmod(0o700)
    (home / "open").chmod(0o711)
    yield home
    (home / "closed").chmod(0o755)


def closed_below(home: Path, paths: list[Path], uid: int) -> dict[Path, list[Path]]:
    """The folders above ``home`` are pytest's own, and private as well: they are left out."""
    above = {path: path.stat().st_mode for path in home.parents if not path.stat().st_mode & stat.S_IXOTH}
    for path, mode in above.items():
        path.chmod(mode | stat.S_IXOTH)
    try:
        return closed_ancestors(paths, uid)
    finally:
        for path, mode in above.items():
            path.chmod(mode)


def test_a_folder_that_nobody_else_may_enter_is_closed(tree: Path) -> None:
    paths = [tree / "closed" / "lab", tree / "open" / "lab"]
    assert closed_below(tree, paths, OTHER) == {tree / "closed": [tree / "closed" / "lab"]}


def test_a_folder_is_open_to_its_owner(tree: Path) -> None:
    assert closed_below(tree, [tree / "closed" / "lab"], os.getuid()) == {}


def test_the_topmost_closed_folder_holds_all_that_is_below_it(tree: Path) -> None:
    tree.chmod(0o700)
    paths = [tree / "closed" / "lab", tree / "open" / "lab"]
    assert closed_below(tree, paths, OTHER) == {tree: paths}


# --- really ---

# These tests' own checkout, wherever another one may be installed from.
HERE = {"PYTHONPATH": str(PROJECT)}

LOOK = """
import json, os, sys
status = dict(line.split(":\\t") for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
def refused(action):
    try:
        action()
    except OSError as error:
        return type(error).__name__
print(json.dumps({
    "uids": os.getresuid(), "gids": os.getresgid(), "groups": os.getgroups(), "folder": os.getcwd(),
    "capabilities": {name: int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")},
    "no_new_privs": status["NoNewPrivs"], "seen": sorted(os.listdir("..")), "content": open("file").read(),
    "writing": refused(lambda: open("file", "a")), "making": refused(lambda: open("new", "w")),
    "removing": refused(lambda: os.unlink("file")), "back": refused(lambda: os.setuid(0)),
}))
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout beside a secret, in a home that is closed to everybody but root."""
    folder = tmp_path / "home" / "lab"
    folder.mkdir(parents=True)
    (folder / "file").write_text("readable")
    (folder.parent / "secret").write_text("not yours")
    folder.parent.chmod(0o700)
    return folder


def look(checkout: Path, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - options of subprocess.run
    user = User("nobody", NOBODY.pw_uid, NOBODY.pw_gid)
    command = command_as(user, checkout, [sys.executable, "-c", LOOK])
    # The caller has a group more, as most users do.
    done = subprocess.run(command, env=HERE, capture_output=True, text=True, check=False, extra_groups=[4], **options)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


@pytest.mark.root
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_command_runs_as_nobody_in_a_checkout_of_a_closed_home(checkout: Path, umask: int) -> None:
    seen = look(checkout, umask=umask)
    assert seen["uids"] == [NOBODY.pw_uid] * 3
    assert seen["gids"] == [NOBODY.pw_gid] * 3
    assert seen["groups"] == []
    assert set(seen["capabilities"].values()) == {0}
    assert seen["no_new_privs"] == "1"
    assert seen["folder"] == str(checkout)
    assert seen["content"] == "readable"
    assert seen["seen"] == ["lab"], "the rest of the home stays hidden"


@pytest.mark.root
def test_a_command_can_neither_write_the_checkout_nor_become_root_again(checkout: Path) -> None:
    seen = look(checkout)
    assert seen["writing"] == seen["making"] == seen["removing"] == "PermissionError"
    assert seen["back"] == "PermissionError"
    assert sorted(path.name for path in checkout.iterdir()) == ["file"]


@pytest.mark.root
def test_the_cover_is_the_command_s_alone(checkout: Path) -> None:
    before = Path("/proc/self/mounts").read_text()
    look(checkout)
    assert Path("/proc/self/mounts").read_text() == before
    assert (checkout.parent / "secret").read_text() == "not yours"


@pytest.mark.root
def test_a_checkout_that_the_user_cannot_read_is_one_line(checkout: Path) -> None:
    checkout.chmod(0o700)
    command = command_as(User("nobody", NOBODY.pw_uid, NOBODY.pw_gid), checkout, ["/bin/true"])
    done = subprocess.run(command, env=HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"uid {NOBODY.pw_uid} cannot read {checkout}: chmod -R o+rX {checkout}\n"


PARENT = textwrap.dedent("""
    import os, subprocess, sys
    from pathlib import Path
    from diagnosis.lab.unprivileged import User, command_as
    user = User("nobody", int(sys.argv[1]), int(sys.argv[2]))
    command = command_as(user, Path("/"), [sys.executable, "-c", "print('up', flush=True); input()"])
""")


def parent(rest: str) -> list[str]:
    """The command line of a process that starts one of nobody's."""
    return [sys.executable, "-c", PARENT + textwrap.dedent(rest), str(NOBODY.pw_uid), str(NOBODY.pw_gid)]


@pytest.mark.root
def test_a_command_dies_with_the_process_that_started_it() -> None:
    """GIVEN a running command WHEN its parent is killed, with no chance to clean up THEN it is killed as well."""
    code = """
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        child.stdout.readline()
        print(child.pid, flush=True)
        input()
    """
    with subprocess.Popen(parent(code), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=HERE) as starter:
        assert starter.stdout
        child = Process(int(starter.stdout.readline()))
        assert child.alive()
        starter.kill()
        wait_until(lambda: not child.alive(), "the command dies")


@pytest.mark.root
def test_a_command_whose_parent_has_ended_already_does_not_start() -> None:
    """Between its start and its request for the signal, nobody sends it one: it has to look for itself."""
    code = """
        if os.fork():
            os._exit(0)
        starter = int(command[command.index("diagnosis.lab.unprivileged") + 1])
        while os.getppid() == starter:
            pass
        os.execv(command[0], command)
    """
    done = subprocess.run(
        parent(code),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=HERE,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert done.stdout == ""
    assert done.stderr == "the process that started this has ended\n"


@pytest.mark.root
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_no_launcher_stays_between_the_caller_and_the_command(number: signal.Signals) -> None:
    user = User("nobody", NOBODY.pw_uid, NOBODY.pw_gid)
    command = command_as(user, Path("/"), ["/bin/sleep", "60"])
    with subprocess.Popen(command, env=HERE) as child:
        wait_until(lambda: Process(child.pid).command == "/bin/sleep 60", "the launcher becomes the command")
        child.send_signal(number)
        assert child.wait(5) == -number


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(SystemExit, match="usage"):
        unprivileged.main(["1", "2", "3", "/", "++", "true"])
    with pytest.raises(SystemExit, match="usage"):
        unprivileged.main(["1", "2", "3", "/", "--"])
