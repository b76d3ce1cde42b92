"""The program ``mask2former``."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from mask2former_cli.commands import COMMANDS, run_command

WIDTH = max(map(len, COMMANDS)) + 2
EPILOG = "commands:\n" + "\n".join(f"  {name:{WIDTH}}{command.summary}" for name, command in COMMANDS.items())
START = """

first steps:
  mask2former doctor                                is everything there?
  mask2former quickstart                            a model of your own in ten minutes, on a data set drawn for it
  mask2former predict --input photo.jpg             published weights, downloaded once; writes into drawn/
  mask2former train-custom --train train.json images/ --model small --output output/mine
  mask2former predict --model output/mine --input photo.jpg

`mask2former COMMAND --help` teaches each.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; ``arguments`` are the words after its name, ``sys.argv[1:]`` if None. Return its exit status."""
    parser = argparse.ArgumentParser(
        prog="mask2former",
        usage="mask2former COMMAND ...",
        description="Universal image segmentation: panoptic, instance, semantic.",
        epilog=EPILOG + START,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mask2former {installed_version()}")
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words:
        parser.print_help()
        return 0
    name, *others = words
    if name.startswith("-"):
        parser.parse_args([name])  # ends with help, version or an error
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(COMMANDS)}."
        parser.error(f"{name} is no command: {hint}")
    return run_command(name, others)


def installed_version() -> str:
    """Return the version of the installed package; of a checkout that is not installed, say that it is none."""
    try:
        return version("mask2former")
    except PackageNotFoundError:
        return "(a checkout, not installed)"


if __name__ == "__main__":
    sys.exit(main())
