#!/usr/bin/env python3
"""Count parameters, FLOPs and time of a model by part, as ``mask2former analyze``. ``--help`` shows how."""

from __future__ import annotations

import sys

from mask2former_cli import run_command


def main(arguments: list[str] | None = None) -> int:
    """Run the command; ``arguments`` are those after its name. Return its exit status."""
    return run_command("analyze", arguments, prog="analyze.py")


if __name__ == "__main__":
    sys.exit(main())
