"""Allocators around an allocator: a block and its free count once, for the outermost of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from diagnosis.target.custom_allocator import parse_allocator
from tests.trace.tracing import Row, Target, count

if TYPE_CHECKING:
    from tests.trace.conftest import Build
    from tests.trace.tracing import Closing

pytestmark = pytest.mark.ebpf

NAMED = "alloc=headed_take,free=headed_give,alloc=plain_take,free=plain_give,free=jumping_give"
HEADED = {"headed_kept": Row(4, 0, 2800), "headed_given_back": Row(6, 6, 0)}


def test_an_allocator_that_the_user_names_around_the_c_library(
    build: Build, closing: Closing, allow_session: bool
) -> None:
    """Its frees free a block inside: that is none of before the trace."""
    with (
        Target([build("wrapping.c")]) as target,
        closing.tracing(target, allow_session=allow_session, custom=parse_allocator(NAMED)) as tracer,
    ):
        target.go()
        older, counted = tracer.snapshot().older, count(tracer)
    assert counted.table == HEADED | {"plain_given_back": Row(5, 5, 0), "jumping_given_back": Row(3, 3, 0)}
    assert older
    assert older.frees == 4
    assert counted.lost == {}


def test_an_allocator_that_takes_the_place_of_malloc(build: Build, closing: Closing, allow_session: bool) -> None:
    with (
        Target([build("wrapping.c", "-DREPLACES", name="replaces")]) as target,
        closing.tracing(target, allow_session=allow_session) as tracer,
    ):
        target.go()
        older, counted = tracer.snapshot().older, count(tracer)
    assert {name: counted.own[name] for name in HEADED} == HEADED
    assert older
    assert older.frees == 4
    assert counted.lost == {}


def test_an_allocator_that_calls_the_c_library_by_way_of_another_library(
    build: Build, closing: Closing, allow_session: bool
) -> None:
    library = build("helper_library.c", "-shared", "-fPIC", name="libhelper.so")
    program = build("helped.c", str(library), name="helped")
    named = parse_allocator("alloc=helped_take,free=helped_give")
    with Target([program]) as target, closing.tracing(target, allow_session=allow_session, custom=named) as tracer:
        target.go()
        older, counted = tracer.snapshot().older, count(tracer)
    assert counted.table == {"helped_kept": Row(5, 0, 500), "helped_given_back": Row(7, 7, 0)}
    assert older
    assert older.frees == 1
    assert counted.lost == {}
