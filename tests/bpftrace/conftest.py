"""native/bpftrace is a folder to copy to where a process runs: its modules find each other by name."""

from __future__ import annotations

import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = PROJECT / "native/bpftrace"
sys.path.append(str(FOLDER))
