from __future__ import annotations

import resource

import pytest

from diagnosis.base.files import allow_descriptors


def test_as_many_files_may_be_open_as_the_hard_limit_says() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    try:
        allow_descriptors()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("hard", "wanted"),
    [(20, [20, 1024]), (1024, [1024]), (65_536, [65_536]), (resource.RLIM_INFINITY, [resource.RLIM_INFINITY])],
)
def test_a_hard_limit_that_is_too_low_is_raised_where_that_is_allowed(
    monkeypatch: pytest.MonkeyPatch, hard: int, wanted: list[int]
) -> None:
    asked = []

    def set_limit(_: int, limits: tuple[int, int]) -> None:
        asked.append(limits)
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (min(hard, 16), hard))
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    allow_descriptors()
    assert asked == [(each, each) for each in wanted]
