#!/usr/bin/env python3
"""Train on custom data without writing code, as ``mask2former train-custom``. ``--help`` shows how."""

from __future__ import annotations

import sys

from mask2former_cli import run_command


def main(arguments: list[str] | None = None) -> int:
    """Run the command; ``arguments`` are those after its name. Return its exit status."""
    return run_command("train-custom", arguments, prog="train_custom.py")


if __name__ == "__main__":
    sys.exit(main())
