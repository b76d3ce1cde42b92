"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import os


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add what trainings and evaluations share: the configuration, ``--resume``, and what is shown and checked."""
    parser.add_argument(
        "--config-file",
        default="",
        metavar="FILE",
        help="configuration: a YAML file, or the name of one of this project's, such as coco/panoptic/r50",
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR")
    parser.add_argument("--quiet", action="store_true", help="show only progress, scores and warnings on the terminal")
    parser.add_argument(
        "--skip-checks", action="store_true", help="start even if the checks find what would end the run"
    )
    add_trust(parser)
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        metavar="KEY VALUE",
        help="configuration keys to change, at the end, such as SOLVER.MAX_ITER 100",
    )


def add_config_file(parser: argparse._ActionsContainer, required: bool = True) -> None:
    """Add ``--config-file``, which has to be given, or is one of a group."""
    parser.add_argument(
        "--config-file",
        required=required,
        metavar="FILE",
        help="configuration: a YAML file, or the name of one of this project's",
    )


def add_launch(parser: argparse.ArgumentParser) -> None:
    """Add how many GPUs and machines take part, by the names that Detectron2's commands use."""
    parser.add_argument("--num-gpus", type=int, default=1, metavar="N", help="GPUs of each machine [%(default)s]")
    parser.add_argument("--num-machines", type=int, default=1, metavar="N", help="machines [%(default)s]")
    parser.add_argument("--machine-rank", type=int, default=0, metavar="N", help="number of this one [%(default)s]")
    # A port of each user's own, the same every time: who finds it taken has left a run going.
    user = os.getuid() if hasattr(os, "getuid") else 1
    parser.add_argument(
        "--dist-url",
        default=f"tcp://127.0.0.1:{49152 + user % 16384}",
        metavar="URL",
        help="where the processes meet: the first machine's address [%(default)s]",
    )


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add ``--overwrite``."""
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="remove an earlier training from the output folder; without, it is moved to earlier/1 there",
    )


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add ``--allow-unsafe-config``, for :func:`mask2former.config.load_config`."""
    parser.add_argument(
        "--allow-unsafe-config",
        action="store_true",
        help="run the code of tags such as !!python/object in the configuration file; only for files that you trust",
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add ``KEY VALUE`` pairs, last on the line."""
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="configuration keys to change, at the end"
    )


# Flag -> (the key that it stands for, its type, its help).
ALIASES = {
    "batch": ("SOLVER.IMS_PER_BATCH", int, "images in a step, over all GPUs"),
    "lr": ("SOLVER.BASE_LR", float, "learning rate"),
    "device": ("MODEL.DEVICE", str, "cpu, cuda, cuda:1"),
    "seed": ("SEED", int, "of all random numbers"),
    "patience": ("SOLVER.PATIENCE", int, "evaluations without a better score after which the training ends"),
}


def add_aliases(parser: argparse.ArgumentParser) -> None:
    """Add flags that stand for keys, by the names that other trainers use."""
    group = parser.add_argument_group("short names of settings (KEY value pairs set any other)")
    group.add_argument("--epochs", type=float, metavar="N", help="passes through the training images: SOLVER.MAX_ITER")
    group.add_argument("--imgsz", type=int, metavar="PIXELS", help="side of training images; test images follow")
    for flag, (key, kind, words) in ALIASES.items():
        group.add_argument(f"--{flag}", type=kind, metavar=kind.__name__.upper(), help=f"{words}: {key}")


def add_slurm(parser: argparse.ArgumentParser) -> None:
    """Add ``--slurm``."""
    parser.add_argument(
        "--slurm",
        metavar="KEY=VALUE,...",
        help="submit the training to Slurm instead of running it here. Keys: nodes [1], gpus of each [1], tasks of "
        "each [one for each GPU], cpus of each task [4], memory of each node in GB, hours [24], cluster=local to try "
        "it on this machine, and any option of sbatch, such as partition=gpu",
    )


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number of at least 1")
    return number
