#!/usr/bin/env python3
"""Serve a web page that draws a model's results, as ``mask2former app``. ``--help`` shows how."""

from __future__ import annotations

import sys

from mask2former_cli import run_command


def main(arguments: list[str] | None = None) -> int:
    """Run the command; ``arguments`` are those after its name. Return its exit status."""
    return run_command("app", arguments, prog="app.py")


if __name__ == "__main__":
    sys.exit(main())
