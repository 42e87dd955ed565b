"""`make picture`: the README's picture of the HTML report, taken of a page by a browser without a window."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# The page down to its flame graph.
WIDTH, HEIGHT = 1280, 1565

# By the page's clock: long enough for everything that moves when it opens.
PAGE_MILLISECONDS = 5_000
LIMIT_SECONDS = 120


def take(browser: str, page: Path, picture: Path) -> None:
    """Open a page, and write what it looks like as a PNG.

    Raises:
        subprocess.SubprocessError: the browser failed, or did not end.
    """
    with tempfile.TemporaryDirectory(prefix="picture-") as folder:
        subprocess.run(
            [
                browser,
                "--headless=new",
                "--no-sandbox",  # root has none; the page is this project's own
                "--disable-gpu",
                "--hide-scrollbars",
                "--blink-settings=preferredColorScheme=1",  # light
                f"--user-data-dir={folder}",
                f"--virtual-time-budget={PAGE_MILLISECONDS}",
                f"--window-size={WIDTH},{HEIGHT}",
                f"--screenshot={picture.resolve()}",
                page.resolve().as_uri(),
            ],
            check=True,
            stderr=subprocess.DEVNULL,
            timeout=LIMIT_SECONDS,
        )


def main() -> int:
    """Take the picture; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, prog="make picture")
    parser.add_argument("page", type=Path, help="a page that `memleak-lab run --html` wrote")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    asked = parser.parse_args()
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        sys.stderr.write(f"none of {', '.join(BROWSERS)} is installed: apt-get install chromium\n")
        return 1
    take(browser, asked.page, asked.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
