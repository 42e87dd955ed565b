"""How far a learner has come survives the program, and damage to it is an error with its remedy."""

from __future__ import annotations

import os
import re
import resource
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from diagnosis.base.errors import LabError
from diagnosis.cli.learn import _begin
from diagnosis.lab.unprivileged import User
from diagnosis.learn.catalog import SOURCE, copy_source
from diagnosis.learn.messages import Messages
from diagnosis.learn.scenarios import SCENARIOS, copy_sources
from diagnosis.learn.state import FILE, UNFINISHED, State, default_folder, read_state, write_new, write_state

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TASKS = 8
SCENARIO = SCENARIOS["error-path"]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    state = State("catalog-cache", 10.0, 3, ["claims"], ["kernel"], {"claims": 2}, [71, 72], 1, elsewhere=True)
    write_state(tmp_path, state)
    assert read_state(tmp_path, TASKS) == state
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_state_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"schema": "memleak-lab/learn/1", "scenario": "a", "speed": 1, "pids": [7]}')
    assert read_state(tmp_path, TASKS) == State("a", 1, pids=[7])


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "is damaged"),
        ("{}", "is damaged"),
        ('{"schema": "memleak-lab/learn/1"}', "is damaged"),
        ('{"schema": "another", "scenario": "a", "speed": 1}', "is damaged"),
        ('{"schema": "memleak-lab/learn/1", "scenario": "a", "speed": 1, "current": 99}', "is damaged"),
        ('{"schema": "memleak-lab/learn/1", "scenario": "a", "speed": "fast"}', "is damaged"),
        ('{"schema": "memleak-lab/learn/1", "scenario": "a", "speed": 1, "passed": 7}', "is damaged"),
        ('{"schema": "memleak-lab/learn/1", "scenario": "a", "speed": 1, "more": 7}', "is damaged"),
        ('{"schema": "memleak-lab/learn/1", "scenario": "a", "speed": 1, "elsewhere": 7}', "is damaged"),
    ],
)
def test_a_damaged_state_is_an_error_with_the_line_that_begins_anew(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(LabError, match=rf"{what}.*memleak-lab learn --new --folder {re.escape(str(tmp_path))}"):
        read_state(tmp_path, TASKS)


def test_damage_is_told_in_plain_words(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"schema": "memleak-lab/learn/1"}')
    with pytest.raises(LabError, match=r"learn.json is damaged: its values are not those that learn writes: begin"):
        read_state(tmp_path, TASKS)


def test_nothing_to_resume_is_an_error_with_the_line_that_begins(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=f"nothing was begun .* memleak-lab learn --folder {re.escape(str(tmp_path))}"):
        read_state(tmp_path, TASKS)


def test_the_folder_follows_the_xdg_rules(tmp_path: Path) -> None:
    user = User("nobody", os.getuid(), os.getgid())
    assert default_folder({"XDG_STATE_HOME": str(tmp_path)}, user) == tmp_path / "memleak-lab" / "learn"
    assert default_folder({"XDG_STATE_HOME": str(tmp_path)}, user, "random") == tmp_path / "memleak-lab/learn/random"
    assert default_folder({"XDG_STATE_HOME": "relative"}, user) == default_folder({}, user)
    assert default_folder({}, user).parts[-4:] == (".local", "state", "memleak-lab", "learn")


@contextmanager
def full_disk() -> Iterator[None]:
    """No file can have more than a few bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_on_a_full_disk_the_file_is_named_and_nothing_of_it_stays(tmp_path: Path) -> None:
    for name, write in (
        (FILE, lambda: write_state(tmp_path, State("a", 1.0))),
        (SOURCE.name, lambda: copy_source(tmp_path)),
        (SCENARIO.source, lambda: copy_sources(SCENARIO, tmp_path)),
    ):
        with pytest.raises(LabError, match=rf"{tmp_path}/.* cannot be written") as refused, full_disk():
            write()
        assert refused.value.remedy == "name another folder: --folder DIR", name
        assert list(tmp_path.iterdir()) == [], name


def test_where_the_file_to_fix_is_there_all_are(tmp_path: Path) -> None:
    """What was copied in part is copied again."""
    (tmp_path / "service.h").mkdir()
    with pytest.raises(LabError, match=r"service.h cannot be written"):
        copy_sources(SCENARIO, tmp_path)
    assert not (tmp_path / SCENARIO.source).exists()


def test_to_begin_anew_removes_what_was_not_finished(tmp_path: Path) -> None:
    (tmp_path / f"{FILE}{UNFINISHED}").touch()
    _begin(tmp_path, State("a", 1.0), Messages("en"), new=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_written_in_place_of_a_link_and_not_through_it(tmp_path: Path) -> None:
    """Root writes into a folder that another user may write to."""
    other = tmp_path / "other"
    other.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(other)

    write_new(link, "yours")

    assert (other.read_text(), link.read_text(), link.is_symlink()) == ("mine", "yours", False)
