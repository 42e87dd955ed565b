"""`python3 -m diagnosis.doctor`: what this machine lacks, said before anything is installed."""

from __future__ import annotations

import argparse
import importlib.util
import sys

from diagnosis.doctor.preflight import Machine
from diagnosis.doctor.prerequisites import Way, check_way


def main() -> int:
    """Print one line for each check: exit status 0 if nothing is missing, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python3 -m diagnosis.doctor", description=__doc__)
    parser.add_argument("--for", dest="way", type=Way, choices=list(Way), default=Way.LAB, help="how the lab will run")
    way = parser.parse_args().way
    checks = check_way(way, Machine())
    if importlib.util.find_spec("heap_trace") is None:
        # It is compiled by the installation, which comes later.
        checks = [check for check in checks if check.name != "eBPF program"]
    for check in checks:
        mark = "ok     " if check.ok else "MISSING"
        sys.stdout.write(f"{mark} {check.name:<18} {check.found}{f': {check.remedy}' if check.remedy else ''}\n")
    return 0 if all(check.ok for check in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
