"""Names of Rust's older mangling, which uses C++'s with escapes and a hash of its own.

Its rules are those of rustc's `symbol_names/legacy.rs`: what no C++ name may hold is written between dollar signs.
"""

from __future__ import annotations

import re

# The hash ends the path, as one more part of it.
_MANGLED = re.compile(r"_ZN.*17h[0-9a-f]{16}E([.@].*)?")
_HASH = re.compile(r"::h[0-9a-f]{16}(?=$| )")
_ESCAPE = re.compile(r"\$(?:u(?P<code>[0-9a-f]{1,6})|(?P<name>SP|BP|RF|LT|GT|LP|RP|C))\$")
_ESCAPED = {"SP": "@", "BP": "*", "RF": "&", "LT": "<", "GT": ">", "LP": "(", "RP": ")", "C": ","}


def is_rust(mangled: str) -> bool:
    """True for a symbol of this mangling."""
    return bool(_MANGLED.fullmatch(mangled))


def as_rust(demangled: str) -> str:
    """The name as Rust has it, from the one that C++'s rules give: without the hash, with its own signs."""
    name = _HASH.sub("", demangled)
    # A part that begins with an escape has an underscore before it.
    name = re.sub(r"(^|::)_(?=\$)", r"\1", name)
    return _ESCAPE.sub(_unescape, name.replace("..", "::"))


def _unescape(found: re.Match[str]) -> str:
    if found["name"]:
        return _ESCAPED[found["name"]]
    code = int(found["code"], 16)
    sign = chr(code) if code <= 0x10FFFF else ""
    return sign if sign.isprintable() and sign else found[0]
