"""`make vendor`: the libraries of the HTML report, from the package registry that npm is set up for.

Each is fetched by name and version, and its minified file and its licence are kept as they are published, with a README
that names where they come from and their checksums. `--check` needs no network: it fails where a file is not what the
README says, or could reach for the network by an address of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).resolve().parents[1] / "diagnosis/output/vendor"
COMMAND = "make vendor"

# What an address in a library may be: names of XML vocabularies, and the library's home in its first line.
HARMLESS = ("http://www.w3.org/", "https://d3js.org")
ADDRESS = re.compile(r"\b(?:https?|wss?):?//[^\s\"'`)]+")


@dataclass(frozen=True)
class Library:
    """One file of one package."""

    package: str
    version: str
    member: str
    licence: str
    purpose: str

    @property
    def files(self) -> dict[str, str]:
        """The names under which files are kept, and what they are called in the package."""
        return {Path(self.member).name: self.member, f"{self.package}.LICENSE": "LICENSE"}


LIBRARIES = (
    Library("d3", "7.9.2", "dist/d3.min.js", "ISC", "the time lines, and what the next one needs"),
    Library("d3-flame-graph", "5.0.0", "dist/d3-flamegraph.umd.min.js", "Apache-2.0", "the flame graph"),
)


def fetch(library: Library) -> dict[str, bytes]:
    """The files of a library, by the names under which they are kept.

    Raises:
        OSError: npm is not installed, or its registry has no such package.
    """
    with tempfile.TemporaryDirectory() as folder:
        wanted = f"{library.package}@{library.version}"
        subprocess.run(
            ["npm", "pack", "--silent", "--pack-destination", folder, wanted],
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
        )
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as opened:
            found = {kept: opened.extractfile(f"package/{member}") for kept, member in library.files.items()}
            return {kept: file.read() for kept, file in found.items() if file}


def readme(files: dict[str, bytes]) -> str:
    """What the folder's README says of these files."""
    rows = [
        f"| `{Path(library.member).name}` | {library.package} {library.version} | `{library.member}` |"
        f" {library.licence} (`{library.package}.LICENSE`) | {library.purpose} |"
        for library in LIBRARIES
    ]
    sums = [f"{hashlib.sha256(content).hexdigest()}  {name}" for name, content in sorted(files.items())]
    return "\n".join(
        [
            "# Libraries that the HTML report holds",
            "",
            "Files of npm packages, as they were published: no byte is changed. The report holds them whole, and their",
            "licences, so that it opens without a network.",
            "",
            "| file | package | in the package | licence | for |",
            "|---|---|---|---|---|",
            *rows,
            "",
            f"`{COMMAND}` fetches them again, in the versions of `scripts/vendor.py`; with ARGS=--check it",
            "compares them with these checksums (SHA-256), and needs no network:",
            "",
            "```",
            *sums,
            "```",
            "",
        ]
    )


def problems(folder: Path = FOLDER) -> Iterator[str]:
    """What is wrong with the files as they lie there, in a line each."""
    names = {name for library in LIBRARIES for name in library.files}
    missing = sorted(name for name in {*names, "README.md"} if not (folder / name).is_file())
    if missing:
        yield f"{', '.join(missing)}: missing: {COMMAND}"
        return
    files = {name: (folder / name).read_bytes() for name in sorted(names)}
    if (folder / "README.md").read_text() != readme(files):
        yield f"README.md is of other files or versions: {COMMAND}"
    for path in sorted(folder.glob("*.js")):
        for address in ADDRESS.findall(path.read_text()):
            if not address.startswith(HARMLESS):
                yield f"{path.name} holds the address {address}"


def main() -> int:
    """Fetch, or check; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, prog=COMMAND)
    parser.add_argument("--check", action="store_true", help="fetch nothing: compare files and checksums")
    if not parser.parse_args().check:
        FOLDER.mkdir(exist_ok=True)
        files = {name: content for library in LIBRARIES for name, content in fetch(library).items()}
        for name, content in files.items():
            (FOLDER / name).write_bytes(content)
        (FOLDER / "README.md").write_text(readme(files))
    found = list(problems())
    sys.stderr.writelines(f"{line}\n" for line in found)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
