"""`python -m pipeline` and the `pipeline` command: argv to the command line, its result to an exit code."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line on this process's arguments and return its exit code."""
    from pipeline.cli.app import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
