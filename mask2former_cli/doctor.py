"""``mask2former doctor``: say what is installed, what is missing, and the command that gets it."""

from __future__ import annotations

import argparse
import sys

from mask2former_cli import findings
from mask2former_cli.detectron2_release import InstallError, install
from mask2former_cli.findings import Finding
from mask2former_cli.patch_detectron2 import patch_installed

EPILOG = """
It needs none of what it looks for: neither PyTorch nor Detectron2 has to be there. A small model of random weights is
run at the end, where all is there that it needs. The status is 0 where inference works, else 1.

Detectron2 is in no package registry under its own name. --install-detectron2 installs the Python sources of its version
0.6 with what they need, mends them for today's NumPy and Pillow, and leaves one that is there already where it is,
mending it if need be. Its main branch, with or without compiled code, serves as well; install it as its documentation
says.
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Make the parser."""
    result = argparse.ArgumentParser(
        prog=prog,
        description="Say what is installed, what is missing, and the exact command that gets it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--install-detectron2", action="store_true", help="install Detectron2 0.6 first, and mend it")
    result.add_argument("--no-run", action="store_true", help="do not run a model, which takes seconds")
    return result


def run(args: argparse.Namespace) -> int:
    """Run the command of the parsed words. Return its exit status."""
    if args.install_detectron2:
        try:
            if findings.detectron2()[0].state == "missing":
                install()
            print(patch_installed(), end="\n\n")
        except (InstallError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    needed = [*findings.python_and_packages(), *findings.detectron2()]
    _show(needed)
    works = not any(finding.state in ("missing", "wrong") for finding in needed)
    if works and not args.no_run:
        ran = findings.inference()
        _show(ran)
        works = not any(finding.state == "wrong" for finding in ran)
    print("\nextras, each for one purpose:")
    _show(findings.extras())
    print("\nInference works." if works else "\nInference does not work yet: see what is missing or wrong above.")
    return 0 if works else 1


def _show(lines: list[Finding]) -> None:
    for finding in lines:
        print(f"{finding.state:8} {finding.words}")
        if finding.command:
            print(f"{'':8}   -> {finding.command}", flush=True)
