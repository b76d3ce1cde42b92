"""Set aside what an earlier training has left in an output folder, so that none is overwritten or mixed up."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
from pathlib import Path

from mask2former.checkpoint.whole import TAG
from mask2former.dashboard.runs import EVALUATED

logger = logging.getLogger(__name__)
FOLDER = "earlier"
NUMBERED = "model_" + "[0-9]" * 7 + ".pth"
MODELS = (NUMBERED, "model_final.pth", "model_best.pth", "model_last_good.pth")
_DRAWN = ("curves.html", "report*.html", "events.out.tfevents.*")
RESULTS = (TAG, "best.json", "metrics.json", "scores*.json", EVALUATED, *_DRAWN)
DESCRIPTION = ("config.yaml", "metadata.json")


def holds_training(folder: Path) -> bool:
    """Tell whether a training has left weights in a folder."""
    return any(True for pattern in MODELS for _ in folder.glob(pattern))


def set_aside(folder: str | Path, *, whole: bool, weights: str = "", remove: bool = False) -> Path | None:
    """Move an earlier training's files to ``earlier/1`` (2, 3 ...) in its folder; return that, or None if none was.

    Args:
        folder: the output folder; files of other names in it are left alone.
        whole: move the configuration and the classes too, with which ``Predictor`` and ``--resume`` work on the new
            folder; False: they are those of the new training already.
        weights: a file that the new training begins with; it is kept where it is, and the new folder has it too.
        remove: remove the files in place of moving them, but not ``weights``.
    """
    folder = Path(folder)
    if not holds_training(folder):
        return None
    patterns = (*MODELS, *RESULTS, *(DESCRIPTION if whole else ()))
    files = [file for pattern in patterns for file in sorted(folder.glob(pattern)) if file.is_file()]
    if not whole:
        files = [file for file in files if not _drop_second_name(file, folder)]
    start = Path(weights).expanduser().absolute() if weights and "://" not in weights else None
    if remove:
        for file in files:
            if file.absolute() != start:
                file.unlink()
        logger.warning("The earlier training in %s is removed (--overwrite).", folder)
        return None
    if not files:
        return None
    place = next(one for n in itertools.count(1) if not (one := folder / FOLDER / str(n)).exists())
    place.mkdir(parents=True)
    for file in files:
        if file.absolute() == start:
            _share(file, place / file.name)
        else:
            file.rename(place / file.name)
    logger.warning(
        "%s holds an earlier training. A new one begins, so the earlier one is moved to %s, which Predictor and "
        "--resume take as any OUTPUT_DIR. Next time: --resume goes on with a training, --overwrite removes it.",
        *(folder, place),
    )
    return place


def _share(file: Path, other: Path) -> None:
    """Give a file a second name; the new training replaces files, so the other keeps its content."""
    try:
        os.link(file, other)
    except OSError:  # a file system without links
        shutil.copy2(file, other)


def _drop_second_name(file: Path, folder: Path) -> bool:
    """Remove a file that has been set aside already, under a second name; tell whether it was so."""
    known = any(file.samefile(other) for other in folder.glob(f"{FOLDER}/*/{file.name}"))
    if known:
        file.unlink()
    return known
