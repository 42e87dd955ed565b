"""The one exception that the command line turns into a line of text."""

from __future__ import annotations

from diagnosis.base.text import safe_lines


class LabError(Exception):
    """Something that the user can fix.

    Args:
        what: what is wrong, with the value and where it came from.
        remedy: the command or the line that fixes it; "" where there is none to give.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        # Whatever is quoted in it: a path, an argument, what another program said.
        what, remedy = safe_lines(what), safe_lines(remedy)
        super().__init__(f"{what}: {remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy
