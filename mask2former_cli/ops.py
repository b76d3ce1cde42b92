"""The words of ``mask2former ops``: none but ``--help``."""

from __future__ import annotations

import argparse


def parser(prog: str) -> argparse.ArgumentParser:
    """Make the parser."""
    return argparse.ArgumentParser(
        prog=prog, description="Say which operators are compiled here, and how to get the others."
    )
