"""Sizes and durations as people type and read them."""

from __future__ import annotations

import re

from diagnosis.base.text import safe_text

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

# 1 EiB, more than a machine can address: a report with more is refused, and the kernel's counts have 64 bits.
MAX_SIZE = 1 << 60
MAX_HOURS = 10 * 365 * 24

_SIZES = {"": 1, "b": 1, "k": KIB, "kib": KIB, "m": MIB, "mib": MIB, "g": GIB, "gib": GIB}
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


def parse_size(text: str) -> int:
    """Bytes from ``65536``, ``64KiB``, ``64k`` or ``1.5 GiB``.

    Raises:
        ValueError: the text is no size, or one above `MAX_SIZE`.
    """
    match = _QUANTITY.fullmatch(text.strip().lower())
    if not match or match[2] not in _SIZES:
        raise ValueError(f"{_shown(text)} is no size: write bytes, or a number with KiB, MiB or GiB, as in 64KiB")
    size = float(match[1]) * _SIZES[match[2]]  # infinite for more digits than a float holds
    if size > MAX_SIZE:
        raise ValueError(f"{_shown(text)} is too large: a size is from 0 to {MAX_SIZE // GIB}GiB ({MAX_SIZE} bytes)")
    return int(size)


def parse_duration(text: str) -> float:
    """Seconds from ``90``, ``90s``, ``15m`` or ``1h``.

    Raises:
        ValueError: the text is no duration, or one above `MAX_HOURS`.
    """
    match = _QUANTITY.fullmatch(text.strip().lower())
    if not match or match[2] not in _SECONDS:
        raise ValueError(f"{_shown(text)} is no duration: write seconds, or a number with s, m or h, as in 15m")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds > MAX_HOURS * 3600:
        raise ValueError(f"{_shown(text)} is too long: a duration is from 0 to {MAX_HOURS}h")
    return seconds


def write_size(count: int) -> str:
    """``3KiB``, ``64MiB`` or ``5000``: exactly, as a person would type it, and `parse_size` reads it."""
    for unit, scale in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if count and count % scale == 0:
            return f"{count // scale}{unit}"
    return str(count)


def write_duration(seconds: float) -> str:
    """``150s``, ``25m`` or ``10h``: as a person would type it, and `parse_duration` reads it."""
    for unit, scale in (("h", 3600), ("m", 60)):
        if seconds >= 10 * scale:
            return f"{round(seconds / scale)}{unit}"
    return f"{round(seconds)}s"


def format_size(count: float) -> str:
    """``1.50 MiB``: three figures and a unit, four from 1000 on; exact below 1 KiB."""
    sign, count = ("-" if count < 0 else ""), abs(count)
    for unit, scale in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        value = count / scale
        if value >= 1 - 0.5 / 1024:  # what would be rounded to 1024 of the smaller unit is 1.00 of this one
            digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{sign}{value:.{digits}f} {unit}"
    return f"{sign}{count:.0f} B"


def format_change(what: str, size: int) -> str:
    """``memory grew by 12.0 MiB``, ``memory shrank by 12.0 MiB``."""
    if not size:
        return f"{what} did not change"
    return f"{what} {'grew' if size > 0 else 'shrank'} by {format_size(abs(size))}"


def format_count(count: int, thing: str) -> str:
    """``1 allocation``, ``1,200 allocations``."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def format_duration(seconds: float) -> str:
    """``45s``, ``12m 05s`` or ``1h 02m``."""
    whole = int(seconds)
    if whole < 60:
        return f"{seconds:.1f}s" if seconds < 10 else f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def _shown(text: str) -> str:
    """What was typed, in quotes: as much of it as fits a line."""
    return repr(safe_text(text, 40))
