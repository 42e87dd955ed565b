"""What a learner reads: complete in every language."""

from __future__ import annotations

import string

import pytest

from diagnosis.base.errors import LabError
from diagnosis.learn.messages import LANGUAGES, Messages, choose_language, read_catalog
from diagnosis.learn.tasks import TASKS

ENGLISH = read_catalog("en")


def placeholders(text: str) -> set[str | None]:
    return {field for _, field, _, _ in string.Formatter().parse(text)} - {None}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_the_same_messages_with_the_same_values(language: str) -> None:
    catalog = read_catalog(language)
    assert catalog.keys() == ENGLISH.keys()
    assert all(catalog.values()), "none is empty"
    for key, text in catalog.items():
        assert placeholders(text) == placeholders(ENGLISH[key]), key


def test_korean_is_korean() -> None:
    """A text that was copied from English and never translated is found, but for those that are no words."""
    same = {key for key, text in read_catalog("ko").items() if text == ENGLISH[key]}
    assert {key for key in same if any(letter.isalpha() for letter in ENGLISH[key].split("{")[0])} == set()


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_every_task_has_its_texts(task: object) -> None:
    name, hints = task.name, task.hints  # type: ignore[attr-defined]
    keys = {f"{name}.{part}" for part in ("title", "text", "right", "explain", "reveal")}
    keys |= {f"{name}.hint{number}" for number in range(1, hints + 1)}
    assert keys <= ENGLISH.keys()
    assert f"{name}.hint{hints + 1}" not in ENGLISH


@pytest.mark.parametrize(
    ("wanted", "environ", "language"),
    [
        (None, {}, "en"),
        (None, {"LANG": "ko_KR.UTF-8"}, "ko"),
        (None, {"LANG": "ko_KR.UTF-8", "LC_ALL": "C.UTF-8"}, "en"),
        (None, {"LANG": "de_DE.UTF-8", "LC_MESSAGES": "ko"}, "ko"),
        (None, {"LANG": "de_DE.UTF-8"}, "en"),
        ("ko", {"LANG": "C"}, "ko"),
    ],
)
def test_the_language_is_the_option_s_or_the_environment_s(
    wanted: str | None, environ: dict[str, str], language: str
) -> None:
    assert choose_language(wanted, environ) == language


def test_an_unknown_language_is_an_error() -> None:
    with pytest.raises(LabError, match="--lang is 'fr': there are en and ko"):
        choose_language("fr", {})


def test_a_message_takes_its_values() -> None:
    assert Messages("en")("prompt.unknown", word="dance") == "dance is no command. help lists them."
