"""What to do where the kernel does not let this user read something: root is not told to become root."""

from __future__ import annotations

import os

__all__ = ["rights_remedy"]

AS_ROOT = "run this command as root"
REFUSED = "this kernel or container refuses it to root as well: run this command on the host, outside of containers"


def rights_remedy(error: OSError, otherwise: str = "", euid: int | None = None) -> str:
    """The remedy of a LabError for what could not be read.

    Args:
        error: what was said.
        otherwise: what helps as well, in words that follow "or".
        euid: who runs this; by default this process's own user.
    """
    more = f", or {otherwise}" if otherwise else ""
    if (os.geteuid() if euid is None else euid) != 0:
        return AS_ROOT + more
    return REFUSED + more if isinstance(error, PermissionError) else otherwise
