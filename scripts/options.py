"""`python -m scripts.options`: docs/OPTIONS.md, every command and option of memleak-lab, from its parser."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, Final

import typer

from diagnosis.cli.main import app
from diagnosis.cli.status import statuses_text
from scripts.imports import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE: Final = ROOT / "docs" / "OPTIONS.md"
_HEAD: Final = """\
# Every command and option

`memleak-lab COMMAND --help` says the same. This page is written by `make reference` from the program's own parser.
"""


def page() -> str:
    """The whole page."""
    statuses = statuses_text().strip("\n")
    return "\n".join(
        [
            _HEAD,
            *_commands(typer.main.get_command(app), ("memleak-lab",)),
            f"## Exit statuses\n\n```\n{statuses}\n```\n",
        ]
    )


def _commands(command: Any, words: tuple[str, ...]) -> Iterator[str]:  # noqa: ANN401 - the parser's own class has no public name
    """A section for each command that does something, in the order of `--help`."""
    inner = getattr(command, "commands", {})
    for name, each in inner.items():
        yield from _commands(each, (*words, name))
    if not inner:
        yield _section(command, words)


def _section(command: Any, words: tuple[str, ...]) -> str:  # noqa: ANN401
    context = typer.Context(command)
    # The type of an argument says less than its name, and a range is said with its ends.
    rows = [record for one in command.params if (record := one.get_help_record(context))]
    text = re.sub(r"\s+", " ", (command.help or "").split("\f")[0]).strip()
    table = [
        f"| `{name}` | {meaning} |"
        for name, meaning in ((_cell(re.sub(r" <list.*>| range(?=>)", "", a)), _cell(b)) for a, b in rows)
    ]
    lines = [f"## {' '.join(words)}", "", text, "", "| option | meaning |", "|---|---|", *table, ""]
    if end := re.sub(r"\s+", " ", (command.epilog or "").replace("\b", "")).strip():
        lines += [end, ""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().replace("|", "\\|")


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
