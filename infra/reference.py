"""`python -m infra.reference`: the tables in docs/ that say what Pulumi.yaml, the outputs and the metrics are.

A table stands between ``<!-- reference: NAME -->`` and ``<!-- end reference -->``. A test compares what stands there
with what would be written.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml

from grafana import vocabulary
from infra.outputs import ABOUT
from infra.settings import SECRETS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ROOT: Final = Path(__file__).resolve().parents[1]
DOCUMENTS: Final = ("docs/INSTALL.md", "docs/EBPF_GUIDE.md")
_BLOCK: Final = re.compile(r"(<!-- reference: (\w+) -->\n).*?(<!-- end reference -->)", re.DOTALL)


def configuration(project: Mapping[str, Mapping[str, Mapping[str, object]]]) -> str:
    """Every key of Pulumi.yaml with its default and its meaning."""
    rows = []
    for key, entry in project["config"].items():
        default = str(entry["default"]).lower() if isinstance(entry["default"], bool) else str(entry["default"])
        secret = " (`pulumi config set --secret`)" if key in SECRETS else ""
        rows.append((f"`{key}`", f"`{default}`" if default else "", f"{entry['description']}{secret}"))
    return _table(("key", "default", "meaning"), rows)


def outputs() -> str:
    """Every output of the stack."""
    return _table(("output", "what it is"), ((f"`{name}`", text) for name, text in ABOUT.items()))


def metrics() -> str:
    """What the tracer and this project's gadget serve, and under which labels."""
    rows = [
        (one.meaning, f"`{one.tracer}` (counter)" if one.tracer.endswith("_total") else f"`{one.tracer}` (gauge)",
         f"`{one.gadget}` (gauge)")
        for one in vocabulary.QUANTITIES
    ]  # fmt: skip
    rows += [
        ("blocks allocated and not freed", "", f"`{vocabulary.BLOCKS}` (gauge)"),
        ("resident memory as the kernel counts it", f"`{vocabulary.RESIDENT}` (gauge)", ""),
        ("memory of the process, by its kind", f"`{vocabulary.MEMORY}` (gauge, by `kind`)", ""),
        ("blocks freed that are older than the trace", f"`{vocabulary.OLDER_FREES}` (counter)", ""),
        ("their bytes, where the allocator tells", f"`{vocabulary.OLDER_FREED}` (counter)", ""),
        ("what was not counted, or not under its stack", f"`{vocabulary.LOST}` (counter, by `kind`)", ""),
        ("allocations that were not tracked: the maps were full", "", f"`{vocabulary.UNTRACKED}` (gauge)"),
        ("labels", _words(vocabulary.TRACER_LABELS), _words(vocabulary.GADGET_LABELS)),
    ]
    return _table(("what", "`memleak-lab trace --listen`", "the memleak gadget"), rows)


def blocks() -> dict[str, str]:
    """Every table, by the name in its mark."""
    project = yaml.safe_load((ROOT / "Pulumi.yaml").read_text(encoding="utf-8"))
    return {"configuration": configuration(project), "outputs": outputs(), "metrics": metrics()}


def fill(text: str, tables: Mapping[str, str]) -> str:
    """The document with each marked table as it should be.

    Raises:
        KeyError: a mark names no table.
    """
    return _BLOCK.sub(lambda match: f"{match[1]}{tables[match[2]]}\n{match[3]}", text)


def marks(text: str) -> set[str]:
    """The names of the tables that a document holds."""
    return {match[2] for match in _BLOCK.finditer(text)}


def _words(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)])


def main() -> None:
    """Write every table into its document."""
    tables = blocks()
    for name in DOCUMENTS:
        path = ROOT / name
        path.write_text(fill(path.read_text(encoding="utf-8"), tables), encoding="utf-8")
        sys.stdout.write(f"{name}: {', '.join(sorted(marks(path.read_text(encoding='utf-8'))))}\n")


if __name__ == "__main__":
    main()
