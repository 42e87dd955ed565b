"""The image's context and tag."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from infra.context import content_tag, context_files, read_rules
from tests.support.recording import ROOT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / ".dockerignore").write_text("*\n!kept\n!one.txt\n**/*.o\n**/__pycache__\nkept/not.txt\nkept/_*.c\n")
    for path in (
        "kept/a.py",
        "kept/deep/b.py",
        "kept/deep/c.o",
        "kept/__pycache__/a.pyc",
        "kept/not.txt",
        "kept/_made.c",
        "kept/deep/_made.c",
        "one.txt",
        "other.txt",
        "elsewhere/d.py",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    return tmp_path


def test_only_what_is_let_through_is_in_the_context(tree: Path) -> None:
    assert context_files(tree) == ["kept/a.py", "kept/deep/_made.c", "kept/deep/b.py", "one.txt"]


def test_the_tag_follows_what_is_in_the_context_and_nothing_else(tree: Path) -> None:
    tag = content_tag(tree, "base")
    (tree / "other.txt").write_text("changed")
    (tree / "kept/__pycache__/a.pyc").write_text("changed")
    assert content_tag(tree, "base") == tag
    assert content_tag(tree, "another base") != tag
    (tree / "kept/a.py").chmod(0o755)
    executable = content_tag(tree, "base")
    (tree / "kept/a.py").write_text("changed")
    assert len({tag, executable, content_tag(tree, "base")}) == 3
    (tree / "kept/a.py").rename(tree / "kept/moved.py")
    assert content_tag(tree, "base") not in {tag, executable}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("!service\n", "its first line must be"),
        ("", "its first line must be"),
        ("*\n!ser*ice\n", "more of Docker's syntax"),
        ("*\n!service/\n", "more of Docker's syntax"),
        ("*\n!a\na/**/b\n", "more of Docker's syntax"),
    ],
)
def test_what_would_be_read_differently_from_docker_is_refused(text: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        read_rules(text)


def test_the_projects_context_is_the_service_the_cache_and_what_they_are_built_with() -> None:
    files = context_files(ROOT)
    assert {"service/Dockerfile", "service/__main__.py", "requirements/service.txt", "LICENSE"} <= set(files)
    assert {"native/leak/setup.py", "native/leak/src/catalog_cache.c"} <= set(files)
    assert {path.split("/")[0] for path in files} == {"LICENSE", "native", "requirements", "service"}
    assert not [path for path in files if path.endswith((".so", ".o", ".pyc")) or "__pycache__" in path]
