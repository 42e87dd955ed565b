"""Text that others chose, made safe to print: what a process, a file or another program says is never taken as it is.

A terminal obeys control characters, a reader is misled by marks that turn the direction of writing around, and a line
feed makes a line that looks like one of this program's own. All of these are shown by their numbers instead.
"""

from __future__ import annotations

# In characters. A name is cut at its end, which tells least.
MAX_NAME = 1_024
MAX_LINE = 4_096
CUT = "..."


def safe_text(text: str | bytes, limit: int = MAX_NAME) -> str:
    r"""One line of printable text.

    What Unicode calls control, format (the marks of direction are among them), surrogate, private use, unassigned, line
    or paragraph separator, or a space that is no plain one, is written as ``\x1b``, ``\u202e`` or ``\U000e0001``.
    Bytes are UTF-8; what is none is written as ``\xff``.

    Args:
        text: anything. Surrogates that stand for bytes (`os.fsdecode`) are those bytes.
        limit: in characters of the result; a longer one ends in ``...``.
    """
    if isinstance(text, bytes):
        text = text[: 4 * limit + 4].decode(errors="surrogateescape")
    if text.isprintable() and len(text) <= limit:
        return text
    shown = "".join(char if char.isprintable() else _escaped(char) for char in text[: limit + 1])
    return shown if len(shown) <= limit and len(text) <= limit else shown[: limit - len(CUT)] + CUT


def safe_lines(text: str | bytes, limit: int = MAX_LINE) -> str:
    """The same for text of several lines, whose line feeds stay."""
    if isinstance(text, bytes):
        text = text[: 4 * limit + 4].decode(errors="surrogateescape")
    return "\n".join(safe_text(line, limit) for line in text[: limit + 1].split("\n"))


def last_line(text: str) -> str:
    """The last line that says something, or "": kubectl says first what it tried, five times."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _escaped(char: str) -> str:
    number = ord(char)
    if 0xDC80 <= number <= 0xDCFF:
        number -= 0xDC00  # a byte that was no UTF-8
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
