#!/usr/bin/env python3
"""Draw a model's results over images and videos, as ``mask2former predict``. ``--help`` shows how."""

from __future__ import annotations

import sys

from mask2former_cli import run_command


def main(arguments: list[str] | None = None) -> int:
    """Run the command; ``arguments`` are those after its name. Return its exit status."""
    return run_command("predict", arguments, prog="demo.py")


if __name__ == "__main__":
    sys.exit(main())
