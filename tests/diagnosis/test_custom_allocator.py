from __future__ import annotations

import pytest
from heap_trace import Kind, Signature

from diagnosis.target.custom_allocator import EXAMPLE, parse_allocator


def test_the_example_of_every_error_is_read() -> None:
    assert parse_allocator(EXAMPLE) == {
        "my_alloc": Signature(Kind.ALLOCATE, size=2),
        "my_free": Signature(Kind.FREE, pointer=1),
    }


def test_every_kind_with_every_argument() -> None:
    text = (
        "alloc=pool_calloc:count=2:size=3, realloc=pool_grow:ptr=2:size=3,alloc=pool_aligned:out=1:size=3,"
        "alloc=_ZN4Pool4takeEm:size=2:throws,free=pool_give:ptr=2"
    )
    assert parse_allocator(text) == {
        "pool_calloc": Signature(Kind.ALLOCATE, size=3, count=2),
        "pool_grow": Signature(Kind.REALLOCATE, pointer=2, size=3),
        "pool_aligned": Signature(Kind.ALLOCATE, pointer=1, size=3, stores_result=True),
        "_ZN4Pool4takeEm": Signature(Kind.ALLOCATE, size=2, throws=True),
        "pool_give": Signature(Kind.FREE, pointer=2),
    }


def test_what_is_not_said_is_as_in_malloc_realloc_and_free() -> None:
    assert parse_allocator("alloc=take,realloc=grow,free=give") == {
        "take": Signature(Kind.ALLOCATE, size=1),
        "grow": Signature(Kind.REALLOCATE, pointer=1, size=2),
        "give": Signature(Kind.FREE, pointer=1),
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'' begins with none of alloc=, realloc=, free="),
        ("alloc", "'alloc' begins with none of alloc=, realloc=, free="),
        ("malloc=take,free=give", "'malloc=take' begins with none"),
        ("alloc=,free=give", "'alloc=' names no function: a symbol stands there"),
        ("alloc=operator new,free=give", "'alloc=operator new' names no function"),
        ("alloc=take,free=take", "take is named twice"),
        ("alloc=take:bytes=1,free=give", "take: 'bytes=1' is no argument of alloc=, which has size=, count=, out="),
        ("alloc=take,free=give:size=2", "give: 'size=2' is no argument of free=, which has ptr="),
        ("alloc=take,free=give:throws", "give: 'throws' is no argument of free="),
        ("alloc=take:size=1:size=2,free=give", "take: size= stands there twice"),
        ("alloc=take:size,free=give", "take: 'size' is no position: they are 1 to 5"),
        ("alloc=take:size=0,free=give", "take: 'size=0' is no position: they are 1 to 5"),
        ("alloc=take:size=6,free=give", "take: 'size=6' is no position"),
        ("alloc=take:size=-1,free=give", "take: 'size=-1' is no position"),
        ("alloc=take:count=1,free=give", r"take: two arguments at one position \(size=1, count=1\)"),
        ("alloc=take", "it has no free=: blocks that are taken and given back by different allocators"),
        ("free=give", "it has no alloc="),
    ],
)
def test_what_is_wrong_is_said_with_an_example(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}.*For example: --allocator '{EXAMPLE}'$") as caught:
        parse_allocator(text)
    assert "\n" not in str(caught.value)
