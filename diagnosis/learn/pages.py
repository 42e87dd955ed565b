"""The scenarios' pages: what an operator sees, what is behind it, and how to fix it, in each language."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

__all__ = ["Page", "read_pages"]

FOLDER = Path(__file__).with_name("messages")


@dataclass(frozen=True)
class Page:
    """One scenario's page, as plain text in paragraphs without a fixed width.

    Attributes:
        title: what the service is; it says nothing of the answer.
        story: what the operator sees; nor does this.
        explanation: what is behind it.
        fix: how to fix it, or what to do instead.
    """

    title: str
    story: str
    explanation: str
    fix: str


def read_pages(language: str) -> dict[str, Page]:
    """Every scenario's page by the scenario's name.

    Args:
        language: en or ko.
    """
    document = tomllib.loads((FOLDER / f"scenarios.{language}.toml").read_text(encoding="utf-8"))
    # Lines end where the file's do; a reader's are as long as the terminal is wide.
    return {
        name: Page(**{field.name: " ".join(texts[field.name].split()) for field in fields(Page)})
        for name, texts in document.items()
    }
