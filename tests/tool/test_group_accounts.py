"""Where the memory of a server and its workers went, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.programs import answer, compile_c, running
from tests.tool.accounts import assert_adds_up, part
from tests.tool.tracing import report

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = Path(__file__).with_name("programs") / "groups.c"
MIB = 1 << 20

# What was taken in the moments between two readings of one end of the window, at the rates of this program.
BETWEEN_BYTES = 3 * MIB

pytestmark = pytest.mark.ebpf


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_c(SOURCE.read_text(), tmp_path_factory.mktemp("groups") / "groups", "-D_GNU_SOURCE", "-Wno-unused")


@pytest.fixture
def trace(server: Path) -> Callable[[str], dict[str, Any]]:
    """The report of a server of a kind, whose account adds up."""

    def traced(kind: str) -> dict[str, Any]:
        with running(server, kind) as process:
            assert answer(process) == "ready"
            found = report("--pid", process.pid, "--children", "--duration", "6s")
        assert_adds_up(found)
        return found

    return traced


def growth(found: dict[str, Any]) -> int:
    """Of the memory that the kernel cannot drop."""
    return sum(each["bytes"] for each in found["account"]["kinds"] if each["name"] != "file")


def test_workers_that_leak(trace: Callable[[str], dict[str, Any]]) -> None:
    found = trace("leak")
    assert found["verdict"]["function"] == "handle_request"
    assert part(found, "live") == pytest.approx(growth(found), abs=BETWEEN_BYTES)
    assert part(found, "live") > 3 * MIB
    assert part(found, "copies") + part(found, "started") + part(found, "ended") == pytest.approx(0, abs=MIB)


def test_workers_that_give_back_what_they_take(trace: Callable[[str], dict[str, Any]]) -> None:
    found = trace("healthy")
    assert found["verdict"]["answer"] == "no leak", found["verdict"]["summary"]
    assert abs(growth(found)) < MIB


@pytest.mark.parametrize(
    ("kind", "name"), [("break", "unseen"), ("system call", "unseen"), ("shared system call", "shared")]
)
def test_memory_that_one_worker_takes_without_an_allocator(
    trace: Callable[[str], dict[str, Any]], kind: str, name: str
) -> None:
    found = trace(kind)
    assert found["verdict"]["answer"] == "growing", found["verdict"]["summary"]
    assert part(found, name) == pytest.approx(growth(found), abs=BETWEEN_BYTES)
    assert part(found, name) > 10 * MIB


@pytest.mark.parametrize(("kind", "function"), [("pools", "map_pool"), ("files", "patch_file")])
def test_mappings_of_workers_whose_addresses_are_alike(
    trace: Callable[[str], dict[str, Any]], kind: str, function: str
) -> None:
    found = trace(kind)
    assert found["verdict"]["function"] == function, found["verdict"]["summary"]
    assert part(found, "mapped") == pytest.approx(growth(found), abs=BETWEEN_BYTES)
    assert part(found, "mapped") > 3 * MIB


def test_pages_of_the_server_that_workers_write_to_are_copies_and_no_leak(
    trace: Callable[[str], dict[str, Any]],
) -> None:
    found = trace("written since")
    assert found["verdict"]["answer"] == "no leak", found["verdict"]["summary"]
    assert part(found, "copies") == pytest.approx(growth(found), abs=MIB)
    assert part(found, "copies") > 10 * MIB
    assert "of it is copies of pages that processes had shared since a fork" in found["verdict"]["summary"]


def test_shared_memory_that_all_workers_fill_counts_once(trace: Callable[[str], dict[str, Any]]) -> None:
    found = trace("shared, filled")
    grown = found["truth"]["resident_bytes_end"] - found["truth"]["resident_bytes_start"]
    assert part(found, "shared") == pytest.approx(grown / 3, rel=0.2)
    assert part(found, "shared") > 3 * MIB


def test_shared_memory_of_the_server_that_workers_only_read_is_no_growth(
    trace: Callable[[str], dict[str, Any]],
) -> None:
    found = trace("shared, read")
    assert found["truth"]["resident_bytes_end"] - found["truth"]["resident_bytes_start"] > 10 * MIB
    assert abs(growth(found)) < MIB
    assert found["verdict"]["answer"] == "no leak", found["verdict"]["summary"]


def test_what_recycled_workers_leak_is_found_and_has_gone_with_them(trace: Callable[[str], dict[str, Any]]) -> None:
    """The memory of the machine does not grow by it."""
    found = trace("recycled")
    assert found["verdict"]["function"] == "handle_request", found["verdict"]["summary"]
    assert part(found, "live") > MIB
    assert part(found, "ended") < -part(found, "live") / 4
    assert abs(growth(found)) < part(found, "live")


def test_recycled_workers_that_warm_up_are_no_leak(trace: Callable[[str], dict[str, Any]]) -> None:
    found = trace("recycled healthy")
    assert found["verdict"]["answer"] == "no leak", found["verdict"]["summary"]
    assert abs(growth(found)) < 3 * 8 * MIB
