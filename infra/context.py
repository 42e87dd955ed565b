"""The image's build context: which files it holds, and the tag that their content makes."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IGNORE_FILE = ".dockerignore"
TAG_LENGTH = 12


@dataclass(frozen=True)
class Rule:
    """One line of a .dockerignore: the last one that matches a path, or a folder above it, decides."""

    pattern: str
    admits: bool

    def matches(self, path: str) -> bool:
        """Whether the path, or a folder above it, fits the pattern."""
        expression = re.escape(self.pattern)
        for written, meaning in ((r"\*\*/", "(?:.*/)?"), (r"\*", "[^/]*"), (r"\[", "["), (r"\]", "]")):
            expression = expression.replace(written, meaning)
        return re.fullmatch(f"{expression}(?:/.*)?", path) is not None


def read_rules(text: str) -> tuple[Rule, ...]:
    """The rules of a .dockerignore that begins by denying everything.

    Of Docker's syntax it takes ``*`` first, ``!PATH`` without wildcards, and exclusions with ``*``, ``**/`` and
    ``[...]``: enough for this project, and what else there is would be read differently from Docker.

    Raises:
        ValueError: a line is outside of that.
    """
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if lines[:1] != ["*"]:
        raise ValueError(f"{IGNORE_FILE}: its first line must be *, so that nothing enters the image by chance")
    for line in lines[1:]:
        if not re.fullmatch(r"![\w./-]+|(?:\*\*/)?(?!.*\*\*)[\w./*\[\]-]+", line) or line.endswith("/"):
            raise ValueError(f"{IGNORE_FILE}: {line!r} is more of Docker's syntax than infra/context.py reads")
    return tuple(Rule(line.removeprefix("!"), line.startswith("!")) for line in lines)


def context_files(root: Path) -> list[str]:
    """The paths, relative to ``root`` and sorted, of all files that Docker lets into the context."""
    rules = read_rules((root / IGNORE_FILE).read_text(encoding="utf-8"))
    admitted = {path for rule in rules if rule.admits for path in _walk(root, root / rule.pattern)}
    return sorted(path for path in admitted if [rule for rule in rules if rule.matches(path)][-1].admits)


def content_tag(root: Path, *ingredients: str) -> str:
    """A tag that changes with the context's files, their executable bits and the other ingredients of the image."""
    digest = hashlib.sha256()
    for ingredient in ingredients:
        digest.update(ingredient.encode() + b"\0")
    for path in context_files(root):
        file = root / path
        executable = bool(file.stat().st_mode & 0o111)
        digest.update(f"{path}\0{executable}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:TAG_LENGTH]


def _walk(root: Path, start: Path) -> Iterator[str]:
    files = (start,) if start.is_file() else start.rglob("*")
    return (path.relative_to(root).as_posix() for path in files if path.is_file())
