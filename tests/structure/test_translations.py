"""A document in Korean says what the English one says: the same commands, figures and links, part by part."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
NUMBER = re.compile(r"(?<![\w.])\d(?:[\d,]*\d)?(?:\.\d+)?")
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
TRANSLATED = [path for path in DOCUMENTS if path.name.endswith(".ko.md")]
GLOSSARY = ROOT / "docs" / "GLOSSARY.md"


def english(path: Path) -> Path:
    return path.with_name(path.name.replace(".ko.md", ".md"))


PAIRS = pytest.mark.parametrize("korean", TRANSLATED, ids=lambda path: path.name)


def blocks(path: Path) -> list[tuple[str, list[str]]]:
    """The blocks of code; of shell only the commands, for comments are in the reader's language."""
    return [
        (language, [re.sub(r"(?:^|\s+)#\s.*$", "", line) for line in text.splitlines()] if language == "sh" else [text])
        for language, text in FENCE.findall(path.read_text())
    ]


def prose(path: Path) -> str:
    return FENCE.sub("", path.read_text())


def headings(path: Path) -> list[tuple[int, str]]:
    return [(len(marks), text) for marks, text in HEADING.findall(prose(path))]


def anchor(heading: str) -> str:
    """As GitHub makes it of a heading's text."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def links(path: Path) -> set[str]:
    """The files and addresses that it links to, by their English names and without the place within them."""
    found = {link.partition("#")[0].replace(".ko.md", ".md") for link in LINK.findall(prose(path))}
    return found - {"", english(path).name}


def test_what_a_reader_begins_with_is_translated() -> None:
    assert {path.name for path in TRANSLATED} >= {"README.ko.md", "GLOSSARY.ko.md"}


@PAIRS
def test_the_commands_and_outputs_are_the_same(korean: Path) -> None:
    assert blocks(korean) == blocks(english(korean))


@PAIRS
def test_the_parts_are_the_same(korean: Path) -> None:
    assert [level for level, _ in headings(korean)] == [level for level, _ in headings(english(korean))]


@PAIRS
def test_nothing_that_is_typed_read_or_followed_is_missing(korean: Path) -> None:
    for pattern in (CODE, NUMBER):
        missing = set(pattern.findall(prose(english(korean)))) - set(pattern.findall(prose(korean)))
        assert missing == set()
    assert links(korean) == links(english(korean))


@PAIRS
def test_each_document_links_to_the_other(korean: Path) -> None:
    assert f"]({english(korean).name})" in korean.read_text()
    assert f"]({korean.name})" in english(korean).read_text()


def test_the_glossaries_have_the_same_terms_in_the_order_of_the_alphabet() -> None:
    terms = [text for level, text in headings(GLOSSARY) if level == 2]
    in_korean = [text for level, text in headings(GLOSSARY.with_name("GLOSSARY.ko.md")) if level == 2]
    assert terms == sorted(terms, key=str.lower)
    for term, text in zip(terms, in_korean, strict=True):
        # A term that has no Korean of its own is kept; else it stands in parentheses.
        assert text == term or text.endswith(f" ({term})"), text


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_within_the_documents_leads_somewhere(path: Path) -> None:
    for link in LINK.findall(prose(path)):
        name, _, place = link.partition("#")
        if "://" in link:
            continue
        target = path.parent / name if name else path
        assert target.exists(), link
        if place and target.suffix == ".md":
            assert place in {anchor(text) for _, text in headings(target)}, link
