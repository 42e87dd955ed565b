"""docs/OPTIONS.md is what the parser says of itself."""

from __future__ import annotations

import re

import typer

from diagnosis.cli.main import app
from scripts.options import PAGE, page


def test_the_page_is_the_one_that_would_be_written() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "make reference"


def test_every_option_of_every_command_has_a_row() -> None:
    sections = dict(re.findall(r"^## memleak-lab ([\w ]+)\n(.*?)(?=^## )", page(), re.MULTILINE | re.DOTALL))
    commands = {(name,): each for name, each in typer.main.get_command(app).commands.items()}  # type: ignore[attr-defined]
    while groups := [words for words, each in commands.items() if getattr(each, "commands", None)]:
        for words in groups:
            commands |= {(*words, name): each for name, each in commands.pop(words).commands.items()}
    assert set(sections) == {" ".join(words) for words in commands}
    for words, command in commands.items():
        rows = re.findall(r"^\| `(.*?)` \| (.*) \|$", sections[" ".join(words)], re.MULTILINE)
        for option in (name for one in command.params for name in getattr(one, "opts", ()) if name.startswith("--")):
            (meaning,) = [text for row, text in rows if option in re.split(r"[ ,]+", row)]
            assert meaning, option
