#!/usr/bin/env python3
"""Convert weights between formats, as ``mask2former convert``. ``--help`` shows how."""

from __future__ import annotations

import sys

from mask2former_cli import run_command


def main(arguments: list[str] | None = None) -> int:
    """Run the command; ``arguments`` are those after its name. Return its exit status."""
    return run_command("convert", arguments, prog="convert.py")


if __name__ == "__main__":
    sys.exit(main())
