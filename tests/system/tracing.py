"""The command `memleak-lab`, run as a person would."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

COMMAND = str(Path(sys.executable).with_name("memleak-lab"))
TRACE_SECONDS = 8


def memleak_lab(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it, whatever its exit status."""
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=120)


def solving(learn_command: str) -> str:
    """A stack's ``learn_command`` as root, with this command, and with what solves the tasks in the learner's place."""
    own = learn_command.replace("sudo ", "").replace('"$(command -v memleak-lab)"', shlex.quote(COMMAND))
    return own.replace(" learn ", " learn --solve --lang en ")


def trace(*arguments: str) -> dict[str, Any]:
    """The report of a trace, as JSON."""
    done = memleak_lab("trace", *arguments, "--duration", f"{TRACE_SECONDS}s", "--format", "json")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report
