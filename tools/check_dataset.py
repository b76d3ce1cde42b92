#!/usr/bin/env python3
"""List what is wrong with a data set, as ``mask2former check``. ``--help`` shows how."""

from __future__ import annotations

import sys

from mask2former_cli import run_command


def main(arguments: list[str] | None = None) -> int:
    """Run the command; ``arguments`` are those after its name. Return its exit status."""
    return run_command("check", arguments, prog="check_dataset.py")


if __name__ == "__main__":
    sys.exit(main())
