"""The catalog of scenarios: what is in it, how one is chosen, built, changed and fixed, and what its page says."""

from __future__ import annotations

import re
from dataclasses import astuple
from typing import TYPE_CHECKING

import pytest

from diagnosis.base.errors import LabError
from diagnosis.lab.child import PROJECT
from diagnosis.learn.pages import read_pages
from diagnosis.learn.scenarios import SCENARIOS, SOURCES, apply_fix, build, choose, copy_sources
from diagnosis.report.verdict import Answer

if TYPE_CHECKING:
    from pathlib import Path

    from diagnosis.learn.scenarios import Scenario

OWN = [pytest.param(scenario, id=scenario.name) for scenario in SCENARIOS.values() if scenario.source]
LANGUAGES = ("en", "ko")

# Before the trace nothing may say it.
TELLING = re.compile(
    r"leak|forget|fragment|refcount|reference count|join|detach|mmap|realloc|cache|arena"
    r"|누수|단편화|참조 횟수|조인|캐시",
    re.IGNORECASE,
)
HANGUL = re.compile(r"[가-힣]")


def test_every_kind_and_every_answer_is_in_it() -> None:
    scenarios = SCENARIOS.values()
    assert {scenario.answer for scenario in scenarios} == {answer.value for answer in Answer}
    assert {scenario.kind for scenario in scenarios} >= {"heap", "stacks", "shared", "allocator", "pods"}
    assert {scenario.difficulty for scenario in scenarios} == {1, 2, 3}


def test_what_grows_has_a_function_and_a_fix() -> None:
    for scenario in SCENARIOS.values():
        grows = scenario.answer != Answer.NO_LEAK
        assert bool(scenario.function) == grows
        assert bool(scenario.fix) == (grows and bool(scenario.source))


def test_seeds_reach_every_scenario_and_the_same_seed_the_same() -> None:
    assert {choose(seed).name for seed in range(200)} == set(SCENARIOS)
    assert choose(7) == choose(7)
    assert choose().name in SCENARIOS


@pytest.mark.parametrize("scenario", OWN)
def test_a_scenario_is_a_page_of_code_that_holds_its_function(scenario: Scenario) -> None:
    text = (SOURCES / scenario.source).read_text()
    assert 50 <= text.count("\n") <= 160
    assert scenario.function in text
    assert scenario.caller in text


@pytest.mark.parametrize("scenario", OWN)
def test_it_builds_without_warnings_as_it_is_and_fixed(scenario: Scenario, tmp_path: Path) -> None:
    build(scenario, tmp_path / "run", extra_flags=["-Werror"])
    sources = copy_sources(scenario, tmp_path / "sources").parent
    if scenario.fix:
        apply_fix(scenario, sources)
        build(scenario, tmp_path / "run", sources, ["-Werror"])
        assert re.findall(r"^\+\+\+ b/(\S+)", scenario.fix.read_text(), re.MULTILINE) == [scenario.source]
    assert {path.name for path in sources.iterdir()} >= {scenario.source, "service.c", "service.h"}


def test_a_mistake_in_an_edited_source_is_said_as_the_compiler_says_it(tmp_path: Path) -> None:
    scenario = SCENARIOS["error-path"]
    source = copy_sources(scenario, tmp_path / "sources")
    source.write_text(source.read_text().replace("refused++;", "refused++"))
    with pytest.raises(LabError, match="cc does not take the source: ") as raised:
        build(scenario, tmp_path / "run", source.parent)
    assert re.search(r"orders\.c:\d+:\d+: error: expected", str(raised.value))


def test_a_fix_is_applied_once(tmp_path: Path) -> None:
    scenario = SCENARIOS["error-path"]
    source = copy_sources(scenario, tmp_path)
    apply_fix(scenario, tmp_path)
    fixed = source.read_text()
    with pytest.raises(LabError, match=r"the patch is applied to .* already: type check"):
        apply_fix(scenario, tmp_path)
    assert source.read_text() == fixed
    assert {path.name for path in tmp_path.iterdir()} == {"orders.c", "service.c", "service.h"}


def test_what_does_not_leak_has_no_fix(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="nothing to fix"):
        apply_fix(SCENARIOS["warm-cache"], tmp_path)


def test_the_labs_own_service_is_not_built_here(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="memleak-lab run"):
        build(SCENARIOS["catalog-cache"], tmp_path)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_scenario_has_a_page_and_its_beginning_does_not_tell(language: str) -> None:
    pages = read_pages(language)
    assert set(pages) == set(SCENARIOS)
    for name, page in pages.items():
        assert all(astuple(page)), name
        before = f"{page.title} {page.story}"
        assert not TELLING.search(before), name
        assert not SCENARIOS[name].function or SCENARIOS[name].function not in before
        assert SCENARIOS[name].function in page.explanation


def test_korean_pages_are_korean_and_polite() -> None:
    for name, page in read_pages("ko").items():
        for text in (page.story, page.explanation, page.fix):
            assert HANGUL.search(text), name
            for sentence in re.split(r"(?<=\.)\s+", text):
                assert sentence.endswith("니다."), f"{name}: {sentence}"


def test_the_document_lists_every_scenario_and_does_not_tell() -> None:
    text = (PROJECT / "docs" / "SCENARIOS.md").read_text()
    rows = dict(re.findall(r"^\| (The [\w ]+) \| (\d) \|", text, re.MULTILINE))
    pages = read_pages("en")
    assert rows == {pages[name].title: str(scenario.difficulty) for name, scenario in SCENARIOS.items()}
    for scenario in SCENARIOS.values():
        assert scenario.source in text
        assert scenario.name not in text
        assert not scenario.function or scenario.function not in text
