"""Where a report comes from: this version, this machine, now."""

from __future__ import annotations

import os
import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from diagnosis.lab.child import PROJECT
from diagnosis.output.document import Origin

if TYPE_CHECKING:
    from collections.abc import Mapping


# The debug information of the lab's leak names its files below this folder.
LEAK_SOURCES = (PROJECT / "native/leak",)


def tool_version() -> str:
    """The installed version; "" in a checkout that was not installed."""
    try:
        return version("memleak-lab")
    except PackageNotFoundError:
        return ""


def origin_of_this(options: Mapping[str, Any]) -> Origin:
    """This command, with the options that it was given."""
    system = os.uname()
    return Origin(tool_version(), system.release, system.machine, system.nodename, time.time(), options)
