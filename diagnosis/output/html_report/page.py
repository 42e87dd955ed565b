"""One file that holds everything: the libraries, the scripts, the style and the data. It may load nothing.

The content security policy forbids every request, and every script but those that are in the file, by their hashes. The
data are JSON that no parser of HTML can take for the end of its element. What is put together here is therefore this
project's and the libraries' own text only, with the data in that one place.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

PAGE = Path(__file__).with_name("page")
VENDOR = Path(__file__).resolve().parents[1] / "vendor"

LIBRARIES = ("d3.min.js", "d3-flamegraph.umd.min.js")
LICENCES = ("d3.LICENSE", "d3-flame-graph.LICENSE")

# In the order in which they need each other; they are one script, and share its names.
SCRIPTS = ("dom.js", "verdict.js", "charts.js", "flame.js", "tables.js", "page.js")

# Styles: d3-flame-graph adds a style element of its own. Nothing that a style could load is allowed.
POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'unsafe-inline'; script-src {hashes};"
    " require-trusted-types-for 'script'; trusted-types 'none'"
)


def render(contents: dict[str, Any]) -> str:
    """The page of some contents: see :mod:`diagnosis.output.html_report.contents`."""
    scripts = [*((VENDOR / name).read_text() for name in LIBRARIES), _own_script()]
    return Template((PAGE / "page.html").read_text()).substitute(
        policy=POLICY.format(hashes=" ".join(map(_hash, scripts))),
        style=(PAGE / "page.css").read_text(),
        data=embedded(contents),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
        licences="\n".join(f"<pre>{html.escape((VENDOR / name).read_text())}</pre>" for name in LICENCES),
    )


def embedded(contents: dict[str, Any]) -> str:
    r"""JSON for a script element: ``<``, ``>``, ``&`` and all that is not ASCII is written as ``\u003c``."""
    text = json.dumps(contents, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


@cache
def _own_script() -> str:
    body = "\n".join((PAGE / name).read_text() for name in SCRIPTS)
    return f'\n(() => {{\n"use strict";\n{body}\n}})();\n'


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
