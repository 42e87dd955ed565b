"""The packages of this project, what each may import, and what it does import: read from the source, not run."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]

# Each package imports only from itself and from those named before it.
DIAGNOSIS = ("base", "target", "trace", "report", "faults", "lab", "doctor", "output", "learn", "cli")
COMPARISON = ("tools", "loops", "guide")

# What is this project's own, by the name that is imported, and the folder that holds it.
FOLDERS = {
    "diagnosis": "diagnosis",
    "comparison": "comparison",
    "service": "service",
    "infra": "infra",
    "grafana": "grafana",
    "heap_trace": "native/trace/src/heap_trace",
    "catalog_cache": "native/leak/src/catalog_cache",
    "scripts": "scripts",
    "tests": "tests",
}

# What a package may import of the project beside itself. The tests may import all of it.
MAY_IMPORT = {
    "heap_trace": frozenset[str](),
    "catalog_cache": frozenset[str](),
    "grafana": frozenset[str](),
    # The parser of the command line, whose options are a page of docs/.
    "scripts": frozenset({"diagnosis"}),
    "infra": frozenset({"grafana"}),
    "service": frozenset({"catalog_cache"}),
    # Only the leak's options, to check those of `run` before anything starts.
    "diagnosis": frozenset({"heap_trace", "catalog_cache"}),
    # The probes alone, with an empty program: the limit of what a trace can cost.
    "comparison": frozenset({"diagnosis", "heap_trace"}),
}


@dataclass(frozen=True)
class Import:
    """One imported name.

    Attributes:
        file: relative to the project's folder.
        line: of the statement, from 1.
        name: in full, such as ``diagnosis.base.errors.LabError``.
    """

    file: Path
    line: int
    name: str

    @property
    def package(self) -> str:
        """The first part of the name."""
        return self.name.partition(".")[0]

    def part(self, number: int) -> str:
        """A part of the name, from 0; "" where it has fewer."""
        return [*self.name.split("."), *[""] * number][number]


def read_imports(root: Path, folder: str) -> Iterator[Import]:
    """Every import of this project's own packages in the modules of a folder, in type checking blocks too."""
    for path in sorted((root / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import(names=names):
                    found = [alias.name for alias in names]
                case ast.ImportFrom(module=module, names=names, level=level):
                    # `from . import x` of a/b.py is a.x.
                    above = path.relative_to(root).parts[:-level] if level else ()
                    base = ".".join(filter(None, (*above, module)))
                    found = [f"{base}.{alias.name}" for alias in names]
                case _:
                    continue
            for name in found:
                each = Import(path.relative_to(root), node.lineno, name)
                if each.package in FOLDERS:
                    yield each


def broken_rules(root: Path = ROOT) -> list[str]:
    """Every import that a package may not have, in a line each with its place and the rule."""
    return [
        *_between_packages(root),
        *_within(root, "diagnosis", DIAGNOSIS),
        *_within(root, "comparison", COMPARISON),
        *_between_tests(root),
    ]


def _between_packages(root: Path) -> Iterator[str]:
    for package, allowed in MAY_IMPORT.items():
        for each in read_imports(root, FOLDERS[package]):
            if each.package not in {package, *allowed}:
                rule = f"{package} may import {', '.join(sorted(allowed)) or 'nothing of this project'}"
                yield f"{each.file}:{each.line} imports {each.name}: {rule}"


def _within(root: Path, package: str, order: tuple[str, ...]) -> Iterator[str]:
    for number, inner in enumerate(order):
        for each in read_imports(root, f"{package}/{inner}"):
            if each.package == package and each.part(1) not in order[: number + 1]:
                rule = f"{package}.{inner} may import {', '.join(order[: number + 1])}"
                yield f"{each.file}:{each.line} imports {each.name}: {rule}"


def _between_tests(root: Path) -> Iterator[str]:
    """Tests share by `tests/support` and `tests/conftest.py` only: a folder of tests can be moved or deleted alone."""
    for each in read_imports(root, "tests"):
        folder = each.file.parts[1]
        if each.package == "tests" and each.part(1) not in {folder.removesuffix(".py"), "support", "conftest"}:
            yield f"{each.file}:{each.line} imports {each.name}: tests may import their own folder and tests.support"
