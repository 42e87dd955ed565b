"""What a learner reads, by language: one catalog a language, with the same messages in each."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from diagnosis.base.errors import LabError
from diagnosis.report.summary import Verdict
from diagnosis.report.verdict import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["LANGUAGES", "Messages", "choose_language", "read_catalog"]

FOLDER = Path(__file__).with_name("messages")
LANGUAGES = ("en", "ko")

# In the order in which the C library asks them.
_VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")


def choose_language(wanted: str | None, environ: Mapping[str, str]) -> str:
    """The language of the messages: the one that is asked for, or the environment's, or English.

    Raises:
        LabError: there is no such language.
    """
    if wanted is not None:
        if wanted not in LANGUAGES:
            raise LabError(f"--lang is {wanted!r}: there are {' and '.join(LANGUAGES)}", "try --lang en")
        return wanted
    locale = next((environ[name] for name in _VARIABLES if environ.get(name)), "")
    return next((language for language in LANGUAGES if locale.startswith(language)), "en")


def read_catalog(language: str) -> dict[str, str]:
    """Every message of a language by its key, such as ``prompt.help`` for the key ``help`` of the table ``prompt``."""
    document = tomllib.loads((FOLDER / f"{language}.toml").read_text(encoding="utf-8"))
    return dict(_flat(document))


def _flat(document: Mapping[str, object], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield above + key, str(value).strip("\n")


class Messages:
    """The messages of one language.

    Args:
        language: one of `LANGUAGES`.
    """

    def __init__(self, language: str = "en") -> None:
        self.language = language
        self._texts = read_catalog(language)

    def __call__(self, key: str, /, **values: object) -> str:
        """A message with its values.

        Raises:
            KeyError: there is no such message, or it wants another value.
        """
        texts = {name: self.verdict(value) if isinstance(value, Verdict) else value for name, value in values.items()}
        return self._texts[key].format(**texts)

    def verdict(self, verdict: Verdict) -> str:
        """A verdict in a few words: the report has all of them, in English."""
        if verdict.answer is Answer.NO_LEAK:
            return self._texts["verdict.no_leak"]
        return self._texts[f"verdict.{verdict.answer if verdict.function else 'unnamed'}"].format(
            function=verdict.function
        )
