"""A learner's folder belongs to somebody else: root's `learn` reads, writes, removes and compiles with his rights."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from diagnosis.base.errors import LabError
from diagnosis.cli.learn import FILES, _begin
from diagnosis.learn.catalog import SOURCE, Build, apply_patch, copy_source
from diagnosis.learn.messages import Messages
from diagnosis.learn.owner import Owner, as_owner, owner_of, read_own
from diagnosis.learn.scenarios import SCENARIOS, SOURCES, apply_fix, build_edited, copy_sources, read_sources
from diagnosis.learn.state import FILE, UNFINISHED, State, read_state, write_new, write_state
from tests.hostile.running import memleak_lab

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

LEARNER = 54_321
SCENARIO = SCENARIOS["error-path"]


@pytest.fixture(autouse=True)
def _no_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)


@pytest.fixture
def learner(folder: Path) -> Path:
    """A folder of the learner's."""
    path = folder / "learner"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    os.chown(path, LEARNER, LEARNER)
    return path


@pytest.fixture
def private(folder: Path) -> Path:
    """A folder of root's, with a secret that only root can read."""
    path = folder / "private"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(0o700)
    (path / "secret").write_text("static int the_secret;\n")
    return path


def link(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    os.chown(path, LEARNER, LEARNER, follow_symlinks=False)
    return path


def contents(folder: Path) -> dict[str, tuple[int, str]]:
    return {each.name: (each.stat().st_uid, each.read_text()) for each in folder.iterdir()}


def test_the_owner_is_the_first_user_on_the_way_to_a_folder_and_who_called_sudo(learner: Path, private: Path) -> None:
    assert owner_of(learner / "a" / "b", {}).uid == LEARNER
    assert owner_of(private / "a", {}) == Owner(0, 0)
    assert owner_of(link(learner / "private", private) / "a", {}).uid == LEARNER
    assert owner_of(private, {"SUDO_UID": str(LEARNER), "SUDO_GID": "0"}).uid == LEARNER
    assert owner_of(learner, {"SUDO_UID": "0"}).uid == LEARNER
    private.chmod(0o777)
    with pytest.raises(LabError, match=r"everybody may replace what is in .*private"):
        owner_of(private / "a", {})


def test_rights_are_taken_back_also_after_an_error(learner: Path) -> None:
    before = os.getresuid(), os.getresgid(), os.getgroups()
    with as_owner(learner):
        assert (os.geteuid(), os.getgroups()) == (LEARNER, [])
    with pytest.raises(FileNotFoundError), as_owner(learner):
        (learner / "none").read_text()
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before


def test_what_only_root_can_read_is_not_read_through_a_link(learner: Path, private: Path) -> None:
    source = link(learner / SOURCE.name, private / "secret")
    with pytest.raises(LabError, match="Permission denied"):
        read_own(source)
    with pytest.raises(LabError, match="Permission denied"):
        Build(source)
    link(learner / "source", private)
    with pytest.raises(LabError, match="Permission denied"):
        read_sources(SCENARIO, learner / "source")


@pytest.mark.parametrize("kind", ["pipe", "device", "large"])
def test_a_source_and_a_state_that_have_no_end_are_refused(kind: str, learner: Path) -> None:
    for name in (SOURCE.name, FILE):
        path = learner / name
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            link(path, Path("/dev/zero"))
        else:
            path.touch()
            os.truncate(path, 1 << 40)
    with pytest.raises(LabError, match=r"regular|larger"):
        read_own(learner / SOURCE.name)
    with pytest.raises(LabError, match=r"regular|larger"):
        read_state(learner, 8)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"schema": "memleak-lab/learn/1", "scenario": "catalog-cache", "speed": NaN}',
        '{"schema": "memleak-lab/learn/1", "scenario": "catalog-cache", "speed": 1e999}',
        '{"schema": "memleak-lab/learn/1", "scenario": "catalog-cache", "speed": -1}',
        '{"schema": "memleak-lab/learn/1", "scenario": "catalog-cache", "speed": 1, "hints": {"claims": -7}}',
        '{"schema": "memleak-lab/learn/1", "scenario": "catalog-cache", "speed": 1, "\\u001b[2J": 1}',
    ],
    ids=range(6),
)
def test_a_state_that_was_not_written_here_is_an_error_in_a_line(text: str, learner: Path) -> None:
    (learner / FILE).write_text(text)
    with pytest.raises(LabError, match=r"is damaged|cannot be read") as refused:
        read_state(learner, 8)
    assert str(refused.value).isprintable()


def test_a_state_with_a_forged_scenario_prints_no_escape(learner: Path) -> None:
    text = '{"schema": "memleak-lab/learn/1", "scenario": "\\u001b]0;owned\\u0007:\\n", "speed": 1}'
    (learner / FILE).write_text(text)
    result = memleak_lab("learn", "--resume", "--folder", learner)
    result.check(2)
    assert "no scenario" in result.err


def test_nothing_of_roots_is_written_or_given_away_where_a_link_is_the_folder(learner: Path, private: Path) -> None:
    """With sudo, all that is in the folder that the link leads to became the learner's."""
    before = contents(private)
    source = link(learner / "source", private)
    with pytest.raises(LabError, match="cannot be written"):
        copy_sources(SCENARIO, source)
    with pytest.raises(LabError, match="cannot be written"):
        write_new(source / "built.c", "text")
    with pytest.raises(LabError, match="cannot be written"):
        write_state(source, State("error-path", 1.0))
    link(learner / SOURCE.name, private / "new.c")
    copy_source(learner)
    assert contents(private) == before


def test_a_patch_does_not_reach_a_file_of_roots(learner: Path, private: Path) -> None:
    shutil.copyfile(SOURCE, private / SOURCE.name)
    shutil.copyfile(SOURCES / SCENARIO.source, private / SCENARIO.source)
    before = contents(private)
    with pytest.raises(LabError, match="does not fit"):
        apply_patch(link(learner / SOURCE.name, private / SOURCE.name))
    with pytest.raises(LabError, match="patch"):
        apply_fix(SCENARIO, link(learner / "source", private))
    assert contents(private) == before


def test_what_is_written_is_the_learners(learner: Path) -> None:
    write_state(learner, State("error-path", 1.0))
    apply_patch(copy_source(learner))
    apply_fix(SCENARIO, copy_sources(SCENARIO, learner / "source").parent)
    assert {each.lstat().st_uid for each in learner.rglob("*")} == {LEARNER}


def test_to_begin_anew_removes_links_and_not_what_they_lead_to(learner: Path, private: Path) -> None:
    before = contents(private)
    link(learner / f"{SOURCE.name}{UNFINISHED}", private / "secret")
    for name in FILES:
        link(learner / name, private / "secret" if "." in name else private)
    _begin(learner, State("error-path", 1.0), Messages("en"), new=True)
    assert list(learner.iterdir()) == []
    assert contents(private) == before


def test_a_compiler_reads_nothing_for_a_source_that_its_user_cannot_read(
    learner: Path, private: Path, folder: Path
) -> None:
    """The program that comes of it runs as that user, who could read it there."""
    stolen = f'__asm__(".section .rodata\\n.incbin \\"{private / "secret"}\\"\\n.previous");\n'
    source = learner / SOURCE.name
    copy_source(learner)
    Build(source).close()
    source.write_text(stolen + SOURCE.read_text())
    with pytest.raises(LabError, match="does not compile"):
        Build(source)
    sources = read_sources(SCENARIO, copy_sources(SCENARIO, learner / "source").parent)
    build_edited(SCENARIO, folder / "run", sources)
    with pytest.raises(LabError, match="does not take the source"):
        build_edited(SCENARIO, folder / "run", {**sources, SCENARIO.source: stolen + sources[SCENARIO.source]})
