#!/usr/bin/env python3
"""Draw predictions beside the ground truth, as ``mask2former draw``. ``--help`` shows how."""

from __future__ import annotations

import sys

from mask2former_cli import run_command


def main(arguments: list[str] | None = None) -> int:
    """Run the command; ``arguments`` are those after its name. Return its exit status."""
    return run_command("draw", arguments, prog="draw_predictions.py")


if __name__ == "__main__":
    sys.exit(main())
