"""What a person sees on the terminal and what goes to the log file."""

import argparse
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger
from tqdm import tqdm

from mask2former.data.metadata_file import FILE_NAME, write_metadata

LOGGERS = ("detectron2", "fvcore", "mask2former")

# Between INFO and WARNING: the few lines that a quiet run still shows.
NOTICE = 25
logging.addLevelName(NOTICE, "NOTICE")


def setup_run(cfg: CfgNode, args: argparse.Namespace, quiet: bool = False) -> None:
    """Detectron2's ``default_setup`` (output folder, log file, seeds, saved config), and a terminal fit to read.

    Beside the configuration, the classes of its first data set go to the output folder: with them and the weights it
    is all that :class:`mask2former.predictor.Predictor` needs.

    The file ``log.txt`` of the output folder always holds everything. The terminal of the main process shows INFO
    and above, or, if ``quiet``, NOTICE and above.
    """
    rank = comm.get_rank()
    for name in LOGGERS[:2]:  # as default_setup will; made early so that it is quiet from its first line
        setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank, **({} if name == "detectron2" else {"name": name}))
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank, name="mask2former", abbrev_name="m2f")
    for handler in _terminal_handlers():
        handler.setLevel(NOTICE if quiet else logging.INFO)
    default_setup(cfg, args)
    if comm.is_main_process() and (names := (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN)):
        write_metadata(names[0], Path(cfg.OUTPUT_DIR, FILE_NAME))


class AboveBar:
    """A text stream that prints above a live progress bar instead of through it."""

    def write(self, text: str) -> None:
        tqdm.write(text, file=sys.stdout, end="")

    def flush(self) -> None:
        sys.stdout.flush()


def log_above_bar(on: bool) -> None:
    """Send the terminal's log lines through :class:`AboveBar`, or back to standard output."""
    for handler in _terminal_handlers():
        handler.setStream(AboveBar() if on else sys.stdout)


def _terminal_handlers() -> Iterator[logging.StreamHandler]:
    for name in LOGGERS:
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.StreamHandler) and (
                handler.stream is sys.stdout or isinstance(handler.stream, AboveBar)
            ):
                yield handler
