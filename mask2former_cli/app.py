"""The words of ``mask2former app``."""

from __future__ import annotations

import argparse

from mask2former_cli.arguments import add_trust
from mask2former_cli.choices import DEFAULT_MODEL

EXAMPLES = """
examples:
  %(prog)s                                            the default model, downloaded once
  %(prog)s --model output/mine --examples photos/     a model that you trained, with images to try
  %(prog)s --host 0.0.0.0 --port 7860                 for other machines too: whoever reaches this one can use it
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Make the parser."""
    result = argparse.ArgumentParser(
        prog=prog,
        description="Serve a web page on this machine: drop an image or a film on it and see what a model finds.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument(
        "--model",
        metavar="MODEL",
        help="name of a published model, output folder of a training, or configuration file (give its weights by "
        f"--opts MODEL.WEIGHTS FILE) [{DEFAULT_MODEL}]",
    )
    result.add_argument(
        "--examples", metavar="FOLDER", help="images to try [those of the quickstart, if they have been drawn]"
    )
    result.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on; 0.0.0.0: all of this machine's, so that others can use the page [%(default)s]",
    )
    result.add_argument("--port", type=int, metavar="N", help="port to listen on [the first free one from 7860 on]")
    result.add_argument("--open", action="store_true", help="open the page in the browser")
    add_trust(result)
    result.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="configuration keys to change"
    )
    return result
