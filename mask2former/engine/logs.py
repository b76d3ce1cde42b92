"""Set up logging: a readable terminal, and a log file of everything."""

import argparse
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger
from tqdm import tqdm

from mask2former.dashboard.runs import EVALUATED
from mask2former.data.datasets.metadata_file import FILE_NAME, write_metadata
from mask2former.engine.earlier_runs import holds_training, set_aside
from mask2former.files import write_text

LOGGERS = ("detectron2", "fvcore", "mask2former")
# Loggers whose lines below WARNING the terminal shows: ours, and the checkpoint that is read or written. The rest (the
# environment, a page of configuration, how data are kept in memory, seconds of an evaluation's parts) is in log.txt.
FOR_PEOPLE = ("mask2former", "fvcore.common.checkpoint")
logger = logging.getLogger(__name__)

# Between INFO and WARNING: the few lines that a quiet run still shows.
NOTICE = 25
logging.addLevelName(NOTICE, "NOTICE")


def setup_run(cfg: CfgNode, args: argparse.Namespace, quiet: bool = False) -> None:
    """Call Detectron2's ``default_setup`` (output folder, log file, seeds, saved config) with a readable terminal.

    An earlier training in the output folder is moved to ``earlier/1`` in it, or removed if ``args.overwrite``, unless
    ``args`` says to resume or to evaluate only. Beside the configuration, the classes of the first test data set (or
    training data set, if there is none) go to the output folder; with the weights, that is all that
    :class:`mask2former.predictor.Predictor` needs. An evaluation leaves both as they are where they describe a model,
    and writes its own configuration to ``config_evaluated.yaml``.

    ``log.txt`` in the output folder always holds everything. The terminal of the main process shows the lines of
    :data:`FOR_PEOPLE` from INFO on, or, if ``quiet``, from NOTICE on; of other loggers, warnings.
    """
    rank = comm.get_rank()
    new = not getattr(args, "eval_only", False) and not getattr(args, "resume", True)
    for name in LOGGERS[:2]:  # default_setup does it too, but late: its first lines would not be filtered
        setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank, **({} if name == "detectron2" else {"name": name}))
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank, name="mask2former", abbrev_name="m2f")
    for handler in _terminal_handlers():
        handler.setLevel(NOTICE if quiet else logging.INFO)
        handler.addFilter(is_for_people)
    # Detectron2's page on the environment looks for CUDA; by then the log has said that there is no GPU.
    logging.getLogger("torch.utils.cpp_extension").addFilter(is_not_about_missing_cuda)
    if new and comm.is_main_process():  # before the configuration of this training replaces that of the other
        set_aside(cfg.OUTPUT_DIR, whole=True, weights=cfg.MODEL.WEIGHTS, remove=getattr(args, "overwrite", False))
    folder = Path(cfg.OUTPUT_DIR)
    if getattr(args, "eval_only", False) and _describes_model(folder / "config.yaml", args):
        _setup_evaluation(cfg, args)
        logger.info("Everything goes to %s: %s, log.txt (all lines).", folder, EVALUATED)
        return
    default_setup(cfg, args)
    if comm.is_main_process():
        (folder / EVALUATED).unlink(missing_ok=True)  # of a training that goes on; its evaluations have its own
        if names := (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN):
            write_metadata(names[0], folder / FILE_NAME)
    logger.info("Everything goes to %s: config.yaml, log.txt (all lines), metrics.json.", folder)


def _describes_model(config: Path, args: argparse.Namespace) -> bool:
    """Tell whether a file is the configuration of weights beside it, or the one that this command reads."""
    if not config.is_file():
        return False
    read = Path(getattr(args, "config_file", "") or "")
    return holds_training(config.parent) or (read.is_file() and read.samefile(config))


def _setup_evaluation(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Do what ``default_setup`` does, which would write over the model's own configuration."""
    rank, log = comm.get_rank(), logging.getLogger("detectron2.engine.defaults")
    log.info("Rank of current process: %d. World size: %d", rank, comm.get_world_size())
    log.info("Environment info:\n%s", collect_env_info())
    log.info("Command line arguments: %s", args)
    log.info("Running with full config:\n%s", cfg.dump())
    if comm.is_main_process():
        write_text(Path(cfg.OUTPUT_DIR, EVALUATED), cfg.dump())
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + rank)


def is_for_people(record: logging.LogRecord) -> bool:
    """Tell whether the terminal may show a record, before its handler's level is applied."""
    return record.levelno >= logging.WARNING or record.name.startswith(FOR_PEOPLE)


def is_not_about_missing_cuda(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("No CUDA runtime is found")


class TqdmStream:
    """A text stream that prints above a live progress bar instead of through it."""

    def write(self, text: str) -> None:
        tqdm.write(text, file=sys.stdout, end="")

    def flush(self) -> None:
        sys.stdout.flush()


def log_above_bar(on: bool) -> bool:
    """Send the terminal's log lines through :class:`TqdmStream`, or back to standard output.

    Returns:
        Where they went before, so that a bar inside of another can leave that as it was.
    """
    before = False
    for handler in list(_terminal_handlers()):
        before |= isinstance(handler.setStream(TqdmStream() if on else sys.stdout), TqdmStream)
    return before


def _terminal_handlers() -> Iterator[logging.StreamHandler]:
    for name in LOGGERS:
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.StreamHandler) and (
                handler.stream is sys.stdout or isinstance(handler.stream, TqdmStream)
            ):
                yield handler
