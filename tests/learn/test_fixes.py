"""A right fix of the cache is told from those that free too much, and from one that only slows the leak."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from diagnosis.base.errors import LabError
from diagnosis.lab.unprivileged import choose_user
from diagnosis.learn.catalog import PATCH, SOURCE, Build, apply_patch, copy_source, leaking_line
from diagnosis.learn.scenarios import SCENARIOS, apply_fix, copy_sources
from diagnosis.learn.trial import Answers, try_build

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from diagnosis.learn.trial import Trial

FORGETS = "\t/* The revision before this one is superseded as a whole, and this is where it ought to be freed. */\n"

# Frees what is superseded, and leaves it in the list: the walk of the degraded phase comes to it.
LEAVES_IT_IN_THE_LIST = """
	for (struct catalog_entry *entry = atomic_load(&cache->newest), *next; entry; entry = next) {
		next = entry->superseded;
		if (entry->revision < revision)
			free(entry);
		if (entry->revision + 1 < revision)
			break;
	}
"""


def changed(source: str, old: str, new: str) -> str:
    assert source.count(old) == 1, old
    return source.replace(old, new)


def leaves_it_in_the_list(source: str, _: str) -> str:
    return changed(source, FORGETS, LEAVES_IT_IN_THE_LIST)


def frees_twice(_: str, right: str) -> str:
    return changed(right, "\t\tfree(entry);\n\t}\n}\n", "\t\tfree(entry);\n\t\tfree(entry);\n\t}\n}\n")


def drops_the_newest(_: str, right: str) -> str:
    """Keeps one page of the newest revision: the others are not found any more."""
    return changed(right, "entry && entry->revision == revision; entry", "entry && entry->shard > 14; entry")


def never_unlocks(_: str, right: str) -> str:
    return changed(
        right, "\t\tlast->superseded = NULL;\n\tpthread_rwlock_unlock", "\t\tlast->superseded = NULL;\n\t(void)"
    )


def is_the_shipped_patch(_: str, right: str) -> str:
    return right


def frees_every_second_entry(_: str, right: str) -> str:
    """Only slower: for a trial it is as good as right, and the second trace tells it."""
    return changed(right, "\t\tfree(entry);\n\t}\n}\n", "\t\tif (entry->shard % 2)\n\t\t\tfree(entry);\n\t}\n}\n")


def fixed(folder: Path) -> str:
    copy = copy_source(folder)
    apply_patch(copy)
    return copy.read_text()


def tried(folder: Path, change: Callable[[str, str], str]) -> Trial:
    source = folder / SOURCE.name
    source.write_text(change(SOURCE.read_text(), fixed(folder)))
    with Build(source) as build:
        return try_build(build, choose_user(os.environ, os.geteuid()))


@pytest.mark.root
@pytest.mark.parametrize(
    ("change", "answers"),
    [
        (is_the_shipped_patch, {Answers.RIGHT}),
        (frees_every_second_entry, {Answers.RIGHT}),
        # What it finds where memory was freed: no address, or a list that goes in circles.
        (leaves_it_in_the_list, {Answers.CRASHED, Answers.HANGS, Answers.WRONG}),
        (frees_twice, {Answers.CRASHED}),
        (drops_the_newest, {Answers.WRONG}),
        (never_unlocks, {Answers.HANGS}),
    ],
)
def test_what_a_rebuilt_cache_answers_tells_a_fix_that_frees_too_much(
    tmp_path: Path, change: Callable[[str, str], str], answers: set[Answers]
) -> None:
    trial = tried(tmp_path, change)
    assert trial.answers in answers, trial
    assert trial.answers is Answers.RIGHT or trial.detail


def test_what_does_not_compile_is_an_error_with_the_compiler_s_words(tmp_path: Path) -> None:
    source = tmp_path / SOURCE.name
    source.write_text(SOURCE.read_text().replace("free(entry);", "free(entri);"))
    with pytest.raises(LabError, match=r"catalog_cache.c does not compile: .*:\d+:\d+: error: .*entri"):
        Build(source)


def test_a_patch_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    copy = copy_source(tmp_path)
    edited = copy.read_text().replace("catalog_entry", "page")
    copy.write_text(edited)
    with pytest.raises(
        LabError, match=r"the patch does not fit .* it was edited: begin with .* as it was: "
    ) as refused:
        apply_patch(copy)
    assert copy.read_text() == edited
    assert [path.name for path in tmp_path.iterdir()] == [SOURCE.name]

    subprocess.run(["sh", "-c", refused.value.remedy.partition(": ")[2]], check=True, cwd="/")
    assert copy.read_text() == SOURCE.read_text(), "the line of the error gives the learner's file back"


def test_a_patch_that_is_applied_already_is_said_to_be(tmp_path: Path) -> None:
    copy = copy_source(tmp_path)
    apply_patch(copy)
    patched = copy.read_text()
    with pytest.raises(LabError, match=rf"the patch is applied to {copy} already: type check"):
        apply_patch(copy)
    assert copy.read_text() == patched

    scenario = SCENARIOS["error-path"]
    source = copy_sources(scenario, tmp_path / "source")
    apply_fix(scenario, source.parent)
    with pytest.raises(LabError, match=rf"the patch is applied to {source} already: type check"):
        apply_fix(scenario, source.parent)


def test_the_shipped_patch_touches_nothing_but_the_source() -> None:
    heads = [line for line in PATCH.read_text().splitlines() if line.startswith(("---", "+++"))]
    assert heads == ["--- a/catalog_cache.c", "+++ b/catalog_cache.c"]


def test_the_line_of_the_answer_is_the_malloc_of_the_leaking_function() -> None:
    assert "malloc(bytes)" in SOURCE.read_text().split("\n")[leaking_line() - 1]
