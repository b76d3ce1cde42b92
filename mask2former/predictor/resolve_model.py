"""Find a model's configuration, weights and classes by its name, file or folder."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata

from mask2former.checkpoint.whole import TAG as LAST
from mask2former.checkpoint.whole import damage, newest_whole
from mask2former.config import load_config
from mask2former.config.load import choose_device, merge_options
from mask2former.data.coco.rules import join_below
from mask2former.data.datasets.metadata_file import FILE_NAME, read_metadata
from mask2former.zoo import find_model, models

CONFIG, BEST, WEIGHTS = "config.yaml", "model_best.pth", "model_final.pth"  # in a training's output folder
logger = logging.getLogger(__name__)


def model_config(
    model: str | Path | CfgNode, weights: str | None, opts: Sequence[str], allow_unsafe: bool = False
) -> CfgNode:
    """Return the configuration of a model, whose ``MODEL.WEIGHTS`` says where its weights are.

    Args:
        model: as :class:`mask2former.Predictor` takes it.
        weights: used in place of the model's own.
        opts: changes of the configuration: ``["KEY", "value", ...]``.
        allow_unsafe: see :func:`mask2former.engine.load_config`.

    Raises:
        FileNotFoundError: there is no such model, or its folder lacks a file.
        ConfigError: its configuration cannot be used.
        ValueError: the names of its classes are not known.
    """
    if isinstance(model, CfgNode):
        cfg = model.clone()
        cfg.defrost()
        merge_options(cfg, list(opts))
        choose_device(cfg)
        own = None
    else:
        file, own = _find(str(model), wants_weights=weights is None)
        cfg = load_config(str(file), opts, allow_unsafe)
    if weights is not None:
        cfg.MODEL.WEIGHTS = str(weights)
    elif own is not None and "MODEL.WEIGHTS" not in opts:
        cfg.MODEL.WEIGHTS = own
    cfg.MODEL.DISTILLATION.ENABLED = False  # a teacher is needed for training alone, and may be gone
    _register(cfg, Path(model).expanduser() if isinstance(model, (str, Path)) else None)
    return cfg


def model_metadata(cfg: CfgNode) -> Metadata:
    """Return the names and colours of the classes, those of the first data set in ``DATASETS.TEST``.

    Raises:
        ValueError: ``DATASETS.TEST`` is empty.
    """
    if not cfg.DATASETS.TEST:
        raise ValueError("DATASETS.TEST names no data set, but classes get their names and colours from it.")
    return MetadataCatalog.get(cfg.DATASETS.TEST[0])


def _find(model: str, wants_weights: bool) -> tuple[Path, str | None]:
    """Return the configuration file, and the weights if the file does not name them."""
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / CONFIG).exists() and (path / "config.json").is_file():
            raise FileNotFoundError(
                f"{path}: a folder in Hugging Face's form, which has no {CONFIG}. Name the configuration of the "
                f"network, and the folder's weights: Predictor(CONFIGURATION, {str(path / 'model.safetensors')!r}), or "
                "MODEL.WEIGHTS among a command's options."
            )
        return _need(path / CONFIG, "config.yaml, as training writes it"), weights_of(path) if wants_weights else None
    if path.suffix in (".yaml", ".yml"):
        return path, None  # load_config fails if it does not exist
    if path.is_file():
        beside = _need(path.with_name(CONFIG), f"a configuration beside the weights {path.name}")
        return beside, str(path)
    if (published := find_model(model)) is not None:
        return published.config_file(), published.name
    similar = difflib.get_close_matches(model, models(), n=3)
    raise FileNotFoundError(
        f"{model}: no such model. Give the name of a published model"
        + (f" (similar ones: {', '.join(similar)})" if similar else "")
        + ", listed by `python -m mask2former.zoo`; a configuration file; or the output folder of a training."
    )


def weights_of(folder: Path) -> str:
    """Return the file of a training's weights: the best evaluation's, else the final, else the newest whole checkpoint.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the final weights are damaged, and there is no whole checkpoint.
    """
    best, final = folder / BEST, folder / WEIGHTS
    if best.is_file():
        if not (reason := damage(best, checksums=False)):
            return str(best)
        logger.warning("%s cannot be used (%s), so the final weights are taken.", best, reason)
    reason = damage(final, checksums=False)
    if not reason:
        return str(final)
    if (folder / LAST).is_file():
        name = (folder / LAST).read_text(encoding="utf-8", errors="replace").strip()
        if name:
            join_below(str(folder), name, str(folder / LAST))  # a stranger's folder could name any file
    newest = newest_whole(folder)
    if final.is_file():
        if newest is None:
            raise ValueError(f"{final} cannot be used ({reason}), and {folder} holds no other complete checkpoint.")
        logger.warning("%s cannot be used (%s), so the weights are those of %s.", final, reason, newest)
    if newest is None:
        raise FileNotFoundError(
            f"{folder}: the folder lacks {WEIGHTS}, and {LAST} names no complete file. Has training saved anything yet?"
        )
    return str(newest)


def _need(path: Path, what: str) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent}: the folder lacks {what}.")
    return path


def _register(cfg: CfgNode, origin: Path | None) -> None:
    """Register the classes of the model's data set from the file beside it; else require a registered data set."""
    beside = None
    if origin is not None and origin.exists():  # not a published model's name
        beside = (origin if origin.is_dir() else origin.parent) / FILE_NAME
    if beside is not None and beside.is_file():
        # Under the file's path, not the data set's name, which other folders may use for other classes.
        known_as = str(beside.resolve())
        MetadataCatalog[known_as] = read_metadata(beside)
        cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (), (known_as,)
        return
    names = (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN)
    if names and not _has_classes(names[0]) and names[0] not in DatasetCatalog:
        raise ValueError(
            f"The names of the classes are not known: {beside or FILE_NAME} is not there, and the model's data set "
            f"{names[0]!r} is not registered. Train again, which writes that file; or copy it from a model of the same "
            "data; or register the data set first."
        )


def _has_classes(name: str) -> bool:
    known = MetadataCatalog.get(name).as_dict()
    return "thing_classes" in known or "stuff_classes" in known
