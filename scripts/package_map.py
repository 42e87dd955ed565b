"""`make map`: the picture of the data's way through the packages, docs/packages.svg, drawn from the source.

A box's text is the first sentence of the package's docstring, and its second line what the package imports. An arrow
between two packages needs an import between them; what goes over HTTP, through the kernel or through a process is
dashed. So the picture cannot show what the code does not have, and `--check` fails where the file is out of date.
"""

from __future__ import annotations

import argparse
import ast
import sys
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from scripts.imports import DIAGNOSIS, FOLDERS, ROOT, read_imports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PICTURE = ROOT / "docs/packages.svg"
COMMAND = "make map"

BOX_WIDTH, BOX_HEIGHT = 330, 90
COLUMN_WIDTH, ROW_HEIGHT = 470, 134
MARGIN = 30
LINE_HEIGHT = 14
CHARACTERS_A_LINE = 52
# Arrows within a row leave and arrive above those from row to row, so that no two ends meet.
LANE = 14
ARROW_HEAD = (
    '<defs><marker id="end" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    '<path d="M0 0 L8 4 L0 8 z" fill="#444"/></marker></defs>'
)
LEGEND = (
    "Solid arrows are calls between packages; dashed ones go through HTTP, files, memory or eBPF. "
    "Grey boxes are outside of the project."
)


@dataclass(frozen=True)
class Box:
    """One package by its full name, or something outside of the project, with its place in the grid."""

    name: str
    column: int
    row: int
    outside: str = ""

    @property
    def left(self) -> int:
        """The x of its left edge."""
        return MARGIN + self.column * COLUMN_WIDTH

    @property
    def top(self) -> int:
        """The y of its upper edge."""
        return MARGIN + self.row * ROW_HEIGHT


@dataclass(frozen=True)
class Flow:
    """What goes from one box to another. ``through`` names what carries it where that is no call."""

    source: str
    target: str
    what: str
    through: str = ""


BOXES = (
    Box("catalog_cache", 0, 1),
    Box("service", 0, 3),
    Box("Prometheus", 0, 4, "reads what the service claims, and the tracer's figures"),
    Box("Grafana", 0, 5, "shows both"),
    Box("grafana", 0, 6),
    Box("infra", 0, 7),
    Box("the kernel", 1, 0, "pages, page faults, uprobes"),
    Box("heap_trace", 1, 1),
    Box("diagnosis.target", 1, 2),
    Box("diagnosis.faults", 1, 5),
    Box("diagnosis.learn", 1, 6),
    Box("comparison", 1, 7),
    Box("diagnosis.base", 2, 0),
    Box("diagnosis.trace", 2, 1),
    Box("diagnosis.report", 2, 2),
    Box("diagnosis.lab", 2, 3),
    Box("diagnosis.output", 2, 4),
    Box("diagnosis.cli", 2, 5),
    Box("diagnosis.doctor", 2, 6),
)

FLOWS = (
    Flow("catalog_cache", "the kernel", "written pages", "memory"),
    Flow("catalog_cache", "service", "ledger"),
    Flow("service", "Prometheus", "claims", "HTTP"),
    Flow("Prometheus", "Grafana", "series", "HTTP"),
    Flow("grafana", "Grafana", "dashboards, rules", "files"),
    Flow("grafana", "infra", "dashboards, rules"),
    Flow("the kernel", "heap_trace", "calls, faults", "eBPF"),
    Flow("heap_trace", "diagnosis.trace", "counters, stacks"),
    Flow("diagnosis.target", "diagnosis.trace", "where probes go"),
    Flow("diagnosis.trace", "diagnosis.report", "samples by stack"),
    Flow("diagnosis.target", "diagnosis.report", "symbols"),
    Flow("heap_trace", "diagnosis.faults", "page faults"),
    Flow("diagnosis.report", "diagnosis.lab", "report, verdict"),
    Flow("service", "diagnosis.lab", "claims, ledger", "HTTP"),
    Flow("diagnosis.lab", "diagnosis.output", "grade"),
    Flow("diagnosis.faults", "diagnosis.output", "stacks that grow"),
    Flow("diagnosis.output", "diagnosis.cli", "text, JSON"),
    Flow("diagnosis.output", "Prometheus", "metrics", "HTTP"),
    Flow("diagnosis.doctor", "diagnosis.cli", "what is missing"),
    Flow("diagnosis.lab", "diagnosis.learn", "service, ledger"),
    Flow("diagnosis.learn", "diagnosis.cli", "tasks, checks"),
    Flow("diagnosis.lab", "comparison", "ledger, child"),
)


def packages() -> dict[str, Path]:
    """Every package that the picture has to show, by its name, with its folder."""
    alone = {name: ROOT / folder for name, folder in FOLDERS.items() if name not in {"diagnosis", "tests", "scripts"}}
    return alone | {f"diagnosis.{inner}": ROOT / "diagnosis" / inner for inner in DIAGNOSIS}


def package_of(name: str) -> str:
    """The package of the picture that an imported name belongs to."""
    first, _, rest = name.partition(".")
    return f"{first}.{rest.partition('.')[0]}" if first == "diagnosis" else first


def imports_of(package: str) -> set[str]:
    """The packages of the picture that one imports."""
    folder = packages()[package].relative_to(ROOT)
    found = {package_of(each.name) for each in read_imports(ROOT, str(folder))}
    return (found & packages().keys()) - {package}


def job_of(package: str) -> str:
    """The first sentence of a package's docstring.

    Raises:
        ValueError: it has none.
    """
    text = ast.get_docstring(ast.parse((packages()[package] / "__init__.py").read_text()))
    if not text:
        raise ValueError(f"{package} has no docstring: write in its __init__.py what it is for")
    sentence = " ".join(text.split()).partition(". ")[0]
    return sentence.replace("``", "").replace("`", "")


def problems() -> list[str]:
    """Where the picture would show what the code does not have, or leave out what it has."""
    shown = {box.name for box in BOXES if not box.outside}
    found = [f"{name} is in the picture, and is no package" for name in shown - packages().keys()]
    found += [f"{name} is a package, and is not in the picture" for name in packages().keys() - shown]
    for flow in FLOWS:
        ends = {flow.source, flow.target}
        if flow.through or not ends <= packages().keys():
            continue
        if flow.source not in imports_of(flow.target) and flow.target not in imports_of(flow.source):
            found.append(f"{flow.source} -> {flow.target} ({flow.what}): neither imports the other")
    return sorted(found)


def draw() -> str:
    """The picture as SVG."""
    boxes = {box.name: box for box in BOXES}
    width = max(box.left for box in BOXES) + BOX_WIDTH + MARGIN
    height = max(box.top for box in BOXES) + BOX_HEIGHT + MARGIN + 30
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        "<title>The data's way through the packages</title>",
        f"<!-- Written by `{COMMAND}` from the source: change scripts/package_map.py or a package's docstring. -->",
        ARROW_HEAD,
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *(_arrow(boxes[flow.source], boxes[flow.target], flow) for flow in FLOWS),
        *(line for box in BOXES for line in _box(box)),
        *(_label(boxes[flow.source], boxes[flow.target], flow) for flow in FLOWS),
        _text(MARGIN, height - 18, LEGEND, size=12, colour="#444"),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _box(box: Box) -> Iterator[str]:
    colour = "#e8e8e8" if box.outside else "#eaf2fb" if box.name.startswith("diagnosis") else "#fdf3e1"
    yield (
        f'<rect x="{box.left}" y="{box.top}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6" fill="{colour}"'
        ' stroke="#666"/>'
    )
    yield _text(box.left + 10, box.top + 18, box.name, size=14, weight="bold")
    for number, line in enumerate(textwrap.wrap(box.outside or job_of(box.name), CHARACTERS_A_LINE)[:3]):
        yield _text(box.left + 10, box.top + 35 + number * LINE_HEIGHT, line, size=11)
    if not box.outside and (imported := imports_of(box.name)):
        names = ", ".join(sorted(name.removeprefix("diagnosis.") for name in imported))
        wrapped = textwrap.wrap(f"imports {names}", CHARACTERS_A_LINE)
        for number, line in enumerate(reversed(wrapped)):
            yield _text(box.left + 10, box.top + BOX_HEIGHT - 8 - number * 12, line, size=10, colour="#777")


def _ends(source: Box, target: Box) -> tuple[tuple[float, float], tuple[float, float], bool]:
    """Where an arrow begins and ends, and whether it leaves sideways."""
    if source.column == target.column:
        x = source.left + BOX_WIDTH / 2
        if source.row < target.row:
            return (x, source.top + BOX_HEIGHT), (x, target.top), False
        return (x, source.top), (x, target.top + BOX_HEIGHT), False
    lane = BOX_HEIGHT / 2 + (-LANE if source.row == target.row else LANE)
    begin_y, end_y = source.top + lane, target.top + lane
    if source.column < target.column:
        return (source.left + BOX_WIDTH, begin_y), (target.left, end_y), True
    return (source.left, begin_y), (target.left + BOX_WIDTH, end_y), True


def _passes_a_box(source: Box, target: Box) -> bool:
    """True where boxes lie between two boxes of one column."""
    low, high = sorted((source.row, target.row))
    return any(box.column == source.column and low < box.row < high for box in BOXES)


def _arrow(source: Box, target: Box, flow: Flow) -> str:
    (x1, y1), (x2, y2), sideways = _ends(source, target)
    dashes = ' stroke-dasharray="5 4"' if flow.through else ""
    if sideways:
        half = (x1 + x2) / 2
        path = f"M{x1:g} {y1:g} C{half:g} {y1:g} {half:g} {y2:g} {x2:g} {y2:g}"
    elif _passes_a_box(source, target):
        edge, out = source.left + BOX_WIDTH, source.left + BOX_WIDTH + 60
        y1, y2 = source.top + BOX_HEIGHT / 2 + 12, target.top + BOX_HEIGHT / 2 - 12
        path = f"M{edge} {y1:g} C{out} {y1:g} {out} {y2:g} {edge} {y2:g}"
    else:
        path = f"M{x1:g} {y1:g} L{x2:g} {y2:g}"
    return f'<path d="{path}" fill="none" stroke="#444" stroke-width="1.5"{dashes} marker-end="url(#end)"/>'


def _label(source: Box, target: Box, flow: Flow) -> str:
    (x1, y1), (x2, y2), sideways = _ends(source, target)
    words = f"{flow.what} ({flow.through})" if flow.through else flow.what
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    if not sideways and _passes_a_box(source, target):
        x = source.left + BOX_WIDTH + 46
    width = 6.2 * len(words) + 6
    return (
        f'<rect x="{x - width / 2:g}" y="{y - 9:g}" width="{width:g}" height="15" fill="white" opacity="0.9"/>'
        + _text(x, y + 2, words, size=11, anchor="middle")
    )


def _text(
    x: float, y: float, words: str, *, size: int, weight: str = "normal", colour: str = "#111", anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}" fill="{colour}"'
        f' text-anchor="{anchor}">{escape(words)}</text>'
    )


def main() -> int:
    """Exit status 0 where the picture is written or up to date, 1 where it is not."""
    parser = argparse.ArgumentParser(description="Draw the packages and the data's way through them.")
    parser.add_argument("--check", action="store_true", help="only say whether docs/packages.svg is up to date")
    options = parser.parse_args()
    if found := problems():
        sys.stderr.write("\n".join(found) + "\nchange BOXES or FLOWS in scripts/package_map.py\n")
        return 1
    if options.check:
        if PICTURE.exists() and PICTURE.read_text() == draw():
            return 0
        sys.stderr.write(f"{PICTURE.name} is out of date: {COMMAND}\n")
        return 1
    PICTURE.write_text(draw())
    return 0


if __name__ == "__main__":
    sys.exit(main())
