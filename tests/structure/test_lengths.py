"""A module has one job and is read in one sitting."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
LONGEST = 300
MODULES = ("*.py", "*.c", "*.h", "*.cpp", "*.bt", "*.js", "*.css", "*.html")


def lengths() -> dict[str, int]:
    """Lines of each module that is the project's own: what git does not keep was made or installed."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *MODULES]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    own = [name for name in names if "vendor" not in Path(name).parts and (ROOT / name).exists()]
    return {name: len((ROOT / name).read_text().splitlines()) for name in own}


def test_no_module_of_the_product_or_the_tests_is_longer_than_the_limit() -> None:
    found = lengths()
    assert {"diagnosis/cli/main.py", "native/trace/src/loader.c", "tests/conftest.py"} <= found.keys()
    assert {name: lines for name, lines in found.items() if lines > LONGEST} == {}
