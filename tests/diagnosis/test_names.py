from __future__ import annotations

from dataclasses import replace

import pytest

from diagnosis.report.names import explain_site, name_keeper, say_others
from diagnosis.report.summary import Verdict
from diagnosis.report.verdict import Answer
from diagnosis.target.symbols import Frame, SymbolizedStack
from tests.diagnosis.test_grade import stack

VERDICT = Verdict(Answer.LEAK, "value_make", "", "a summary")


def test_it_is_said_where_the_growth_divides() -> None:
    stacks = [
        stack(600, 6, "xmalloc", "value_make", "value_put", "serve", "main"),
        stack(300, 3, "xmalloc", "value_make", "value_put", "import_all", "main"),
        stack(100, 1, "xmalloc", "value_make", "value_put", "test", "main"),
        stack(5000, 5, "render", "main"),
    ]
    assert list(explain_site(VERDICT, stacks)) == [
        "The bytes of value_make divide at value_put: 60% from serve, 30% from import_all, 10% from test."
    ]


def test_one_way_does_not_divide() -> None:
    assert list(explain_site(VERDICT, [stack(600, 6, "xmalloc", "value_make", "value_put", "main")])) == []


def test_a_caller_that_brings_next_to_nothing_is_no_division() -> None:
    stacks = [stack(9900, 6, "value_make", "value_put"), stack(100, 1, "value_make", "value_get")]
    assert list(explain_site(VERDICT, stacks)) == []


def test_the_caller_that_keeps_what_it_takes_is_told_from_those_that_free_theirs() -> None:
    """As of a pool of the program's own, from which one leaks and the others take and give back."""
    stacks = [
        stack(9900, 6, "region_grow", "region_alloc", "compile_template", "main"),
        stack(0, 4000, "region_grow", "region_alloc", "parse_json", "main"),
        stack(3000, 4000, "region_grow", "main"),
    ]
    verdict = Verdict(Answer.LEAK, "region_grow", "region_alloc", "a summary")
    assert list(explain_site(verdict, stacks)) == [
        "The bytes of region_grow divide at region_grow: 77% from region_alloc, 23% from main."
    ]
    assert name_keeper(verdict, stacks).summary == (
        "a summary Of the callers of region_alloc it is compile_template that keeps what it takes: 100% of the bytes."
    )


def test_a_function_that_calls_itself_is_not_told_from_itself() -> None:
    stacks = [
        stack(9900, 6, "node_new", "parse_object", "parse_object", "main"),
        stack(0, 4000, "node_new", "parse_object", "main"),
    ]
    verdict = Verdict(Answer.LEAK, "node_new", "parse_object", "a summary")
    assert name_keeper(verdict, stacks) == verdict


def test_an_address_says_where_names_come_from() -> None:
    nameless = replace(stack(600, 6, "f"), frames=(Frame("", "libshop.so.1", "", 0, 0x1234),))
    (line,) = explain_site(Verdict(Answer.LEAK, "libshop.so.1+0x1234", "", ""), [nameless])
    assert "libshop.so.1 has no names" in line
    assert "dbgsym" in line
    assert "debuginfod" in line


@pytest.mark.parametrize("module", ["[anonymous]", "[anon:luajit]", "memfd:vmem"])
def test_code_that_was_made_at_run_time_has_no_package_of_symbols(module: str) -> None:
    nameless = replace(stack(600, 6, "f"), frames=(Frame("", module, "", 0, 0x1234),))
    (line,) = explain_site(Verdict(Answer.LEAK, f"{module}+0x1234", "", ""), [nameless])
    assert "made while it ran" in line
    assert "dbgsym" not in line


def test_a_library_that_lay_at_the_same_addresses_is_named_too() -> None:
    """GIVEN plugins that are loaded in turn THEN the verdict does not put on one what may be the other's."""
    frames = stack(600, 6, "value_make", "main").frames
    found = SymbolizedStack(frames, broken=False, depth=2, others=("one.so",))
    assert say_others(VERDICT, [found]).summary == (
        "a summary At its addresses one.so was mapped as well within the window: the code can be of either."
    )
    assert say_others(VERDICT, [replace(found, others=())]) == VERDICT
    assert say_others(replace(VERDICT, function="other"), [found]).summary == "a summary"


def test_without_a_function_there_is_nothing_to_say() -> None:
    nothing = Verdict(Answer.NO_LEAK, "", "", "")
    assert list(explain_site(nothing, [stack(600, 6, "f")])) == []
    assert name_keeper(nothing, [stack(600, 6, "f")]) == nothing
