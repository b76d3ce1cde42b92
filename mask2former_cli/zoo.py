"""The words of ``mask2former zoo``."""

from __future__ import annotations

import argparse


def parser(prog: str) -> argparse.ArgumentParser:
    """Make the parser."""
    result = argparse.ArgumentParser(prog=prog, description="List the published models, or fetch some of them.")
    result.add_argument("name", nargs="*", help="models to fetch; prints the paths of their files")
    return result
