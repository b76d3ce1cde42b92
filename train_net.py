#!/usr/bin/env python3
"""Train or evaluate the model of a configuration file, as ``mask2former train``. ``--help`` shows how."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from mask2former_cli import run_command


def main(arguments: list[str] | None = None) -> int:
    """Run the command; ``arguments`` are those after its name. Return its exit status."""
    return run_command("train", arguments, prog="train_net.py")


def __getattr__(name: str) -> Any:
    """Give scripts that import ``Trainer`` and others from here what they ask for, when they do: it takes seconds."""
    if not name.startswith("_") and hasattr(module := import_module("mask2former.cli.train"), name):
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if __name__ == "__main__":
    sys.exit(main())
