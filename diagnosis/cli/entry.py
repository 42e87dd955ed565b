"""Where the command ``memleak-lab`` is entered: what it imports takes a moment, in which Ctrl-C can come as well."""

import sys


def main() -> None:
    """Import the program, and run it. Interrupted before it began, it ends as it does later: with exit status 130."""
    try:
        from diagnosis.cli.main import main as command  # noqa: PLC0415 - the import is what can be interrupted

        command()
    except KeyboardInterrupt:
        # As in diagnosis/cli/main.py, whose names may not be there yet.
        sys.stderr.write("memleak-lab: interrupted: everything it started is gone\n")
        sys.exit(130)
