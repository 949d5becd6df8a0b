"""`python -m flickbook` and the command `flickbook`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        from flickbook.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # while the command line itself is still being imported
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
