"""From rows to findings, and from findings into the document."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from comparison.guide.__main__ import CLAIMS, DOCUMENT, IG_OUTPUT, OUTPUTS
from comparison.guide.document import fill, shape
from comparison.guide.findings import judge
from comparison.guide.measure import Cost
from comparison.guide.results import NOT_RUN, Results
from comparison.guide.service import Scene
from comparison.loops.contestants import EXACT, LIMIT
from comparison.loops.loads import PACKAGED_SQLITE
from comparison.loops.run import bare_name, innermost_of_largest, named_share
from comparison.loops.tracers import Result, event_costs
from comparison.tools.tool import Row
from diagnosis.base.errors import LabError

if TYPE_CHECKING:
    from comparison.guide.findings import Finding

MIB = 1 << 20
LEAKED = 96 * MIB
SCENE = Scene(container=False, chunk_bytes=64 << 10)
LEAK = ("catalog_cache_insert", "catalog_cache_refresh")


def judged(*rows: Row) -> Finding:
    return judge("tool", SCENE, rows, LEAKED)


def test_a_stack_with_the_function_and_all_bytes_is_exact() -> None:
    finding = judged(Row(LEAK, LEAKED), Row(("other",), 528))

    assert (finding.found, finding.named, finding.bytes_off, finding.false_bytes) == (True, True, 0, 0)


def test_the_right_bytes_under_another_name_are_found_and_not_named() -> None:
    finding = judged(Row(("sysmalloc_mmap",), LEAKED + 4096))

    assert (finding.found, finding.named, finding.names, finding.bytes_off) == (True, False, "sysmalloc_mmap", 4096)


def test_the_stack_that_names_the_function_is_the_leak_even_beside_a_larger_one() -> None:
    finding = judged(Row(LEAK, LEAKED - 4096), Row(("alloc_new_heap",), LEAKED + 4096))

    assert (finding.named, finding.bytes_off, finding.false_bytes) == (True, -4096, LEAKED + 4096)


def test_half_of_the_bytes_are_no_finding() -> None:
    finding = judged(Row(LEAK, LEAKED // 2))

    assert (finding.found, finding.named, finding.bytes_off, finding.false_bytes) == (False, False, None, 0)


def test_only_large_stacks_elsewhere_are_false_leaks() -> None:
    assert judged(Row(LEAK, LEAKED), Row(("a",), MIB - 1), Row(("b",), MIB)).false_bytes == MIB


def test_tables_say_exact_and_how_far_off_and_why_nothing_ran() -> None:
    results = Results(
        findings=[judged(Row(LEAK, LEAKED)), judged(Row(("mmap",), LEAKED + 5)), judged()],
        costs=[Cost("", 10), Cost("tool", 2500)],
        missing={"other tool": "it is not installed"},
    )

    rows = results.findings_table().splitlines()[2:]
    assert "| the function | exact | none |" in rows[0]
    assert "| not the function: mmap | +5 | none |" in rows[1]
    assert "| no |  |  | none |" in rows[2]
    assert "| tool | 2,500 | 250 |" in results.cost_table()
    assert "| other tool | it is not installed |" in results.missing_table()


def test_blocks_go_between_their_marks_and_nothing_else_changes() -> None:
    text = "a\n<!-- begin: one -->\nold\n<!-- end -->\nb\n<!-- begin: two -->\n<!-- end -->\nc\n"

    assert fill(text, {"one": "new", "two": "x\ny"}) == (
        "a\n<!-- begin: one -->\nnew\n<!-- end -->\nb\n<!-- begin: two -->\nx\ny\n<!-- end -->\nc\n"
    )


@pytest.mark.parametrize("blocks", [{}, {"one": "new", "three": "new"}])
def test_a_mark_without_a_block_or_a_block_without_a_mark_is_named(blocks: dict[str, str]) -> None:
    with pytest.raises(LabError, match=r"the guide's marks and the results differ: (one|three)"):
        fill("<!-- begin: one -->\n<!-- end -->\n", blocks)


def test_numbers_do_not_make_a_difference_and_words_do() -> None:
    assert shape("at 0x7f12ab: +1,024 bytes   in 3") == shape("at 0x55aa: -96 bytes in 12345")
    assert shape("12 bytes exact") != shape("12 bytes off")


def test_the_guide_has_a_mark_for_every_block_and_says_where_one_was_not_run() -> None:
    blocks = Results().blocks((*OUTPUTS, IG_OUTPUT, CLAIMS))

    filled = fill(DOCUMENT.read_text(), blocks)

    assert filled.count(NOT_RUN) == len(OUTPUTS) + 2


def test_the_guide_was_written_by_the_harness() -> None:
    text = DOCUMENT.read_text()

    assert NOT_RUN not in text
    assert "| memleak-lab trace | 64 KiB | yes | the function | exact | none |" in text


def test_the_table_of_tools_says_what_each_names_in_packaged_software() -> None:
    rows = Results(packaged={"memleak-lab": "keep_statement", "bcc": "[unknown]"}).tools_table().splitlines()[2:]

    assert [row.rpartition(" | ")[2] for row in rows] == [
        "yes |",
        "not run |",
        "not run |",
        "no: [unknown] |",
        "not run |",
    ]


KEEPS = Row(("sqlite3Malloc", "keep_statement", "main", "_start"), 800)
CUT = Row(("operator new(unsigned long)",), 200)


def test_bytes_under_whole_stacks_through_the_programs_own_function_are_a_share_of_all() -> None:
    no_start = Row(("sqlite3Malloc", "keep_statement"), 500)
    elsewhere = Row(("dlopen", "main", "_start"), 500)

    assert named_share([KEEPS, CUT], ("keep_statement", "work")) == 0.8
    assert named_share([no_start, elsewhere], ("keep_statement", "work")) == 0.0
    assert named_share([], ("keep_statement",)) == 0.0


def test_a_function_is_known_by_its_bare_name() -> None:
    assert bare_name("keep_node() (.cold)") == bare_name("keep_node.part.0") == bare_name("keep_node") == "keep_node"


def test_what_is_named_for_the_most_bytes_is_the_keeper_or_the_innermost_function() -> None:
    assert innermost_of_largest([CUT, KEEPS], "keep_statement") == "keep_statement"
    assert innermost_of_largest([CUT], "keep_statement") == "operator new(unsigned long)"
    assert innermost_of_largest([], "keep_statement") == ""


def test_an_event_costs_what_the_load_took_longer() -> None:
    def result(contestant: str, seconds: float, events: int = 0) -> Result:
        return Result(contestant, PACKAGED_SQLITE.name, "s", seconds, 0, None, events=events)

    costs = event_costs([result("no tracer", 1.0), result(LIMIT.name, 2.0), result(EXACT.name, 3.0, 1_000_000)])

    assert costs == ["packaged SQLite, 1,000,000 events: 2,000 ns, an empty program 1,000 ns"]
    assert event_costs([result("no tracer", 1.0)]) == []
