"""Takes names away that stand for no code, where another function's code lies.

GCC puts the unlikely parts of functions together, and some of them come out empty: NAME.cold, of size 0, at the address
of the next function's part. symbolic names a function by the symbol at its lowest address, so that all of this function
would have the wrong name: the interpreter of Python 3.12 is ast2obj_expr.cold then.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import mmap

_STT_FUNC = 2
_INFO_AT = 4
_SYMBOL = struct.Struct("<IBBHQQ")  # of 64-bit files: name, kind, visibility, section, address, size


def hide_empty_functions(copy: mmap.mmap, offset: int, size: int) -> None:
    """Change the kind of such symbols in the copy of a symbol table, so that they are no functions.

    Args:
        copy: of the file, changed in place.
        offset: of the table.
        size: of the table in bytes: what is left after its last whole entry is not looked at.
    """
    table = copy[offset : offset + size // _SYMBOL.size * _SYMBOL.size]
    empty: list[tuple[int, int, int]] = []
    with_code: set[int] = set()
    for number, (_, info, _, _, address, length) in enumerate(_SYMBOL.iter_unpack(table)):
        if info & 15 != _STT_FUNC:
            continue
        if length:
            with_code.add(address)
        else:
            empty.append((number, info, address))
    for number, info, address in empty:
        if address in with_code:
            copy[offset + number * _SYMBOL.size + _INFO_AT] = info & ~15
