"""The validation data of a custom training, kept in its output folder so that later commands can score on them."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog

from mask2former.config import ConfigError
from mask2former.custom.dataset import CustomDataset, Split
from mask2former.custom.source import DataSource
from mask2former.data.checks import Report

FILE = Path("data", "validation.json")  # in the output folder


def save_validation(data: CustomDataset, output: Path) -> None:
    """Write what :func:`register_validation` reads. Files inside of ``output`` may move with it.

    Args:
        data: the data set.
        output: output folder of the training.
    """
    root = Path(os.path.abspath(output))  # without "..", which would look like a folder inside

    def kept(path: str | None) -> str | None:
        if path is None or "://" in path:
            return path
        whole = Path(os.path.abspath(path))
        return str(whole.relative_to(root)) if whole.is_relative_to(root) else str(whole)

    part = data.val
    source = dataclasses.asdict(part.source)
    content = {
        "kind": data.kind,
        "categories": data.categories,
        "ignore_label": data.ignore_label,
        "name": part.name,
        "source": {**source, **{key: kept(source[key]) for key in ("images", "annotations", "pngs")}},
        "num_images": part.num_images,
        "num_videos": part.num_videos,
        "only": None if part.only is None else sorted(part.only, key=str),
        "paths": {key: kept(path) for key, path in part.paths.items()},
    }
    file = output / FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")


def register_validation(config_file: str) -> None:
    """Register the validation data of the custom training whose ``config.yaml`` this is, unless they are registered.

    Args:
        config_file: configuration file; nothing happens if there are no such data beside it.

    Raises:
        ConfigError: the file beside it is not what :func:`save_validation` wrote.
    """
    root = Path(config_file).absolute().parent
    if not config_file or not (root / FILE).is_file():
        return
    try:
        data = _read(root)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"{root / FILE} is not what train-custom writes ({type(error).__name__}: {error}). Remove it; without it, "
            "evaluate and draw need a registered data set in DATASETS.TEST."
        ) from error
    if data.val.name not in DatasetCatalog:
        data.register(data.val)


def _read(root: Path) -> CustomDataset:
    content: dict[str, Any] = json.loads((root / FILE).read_text(encoding="utf-8"))

    def found(path: str | None) -> str | None:
        return path if path is None or "://" in path else str(root / path)

    source = content["source"]
    part = Split(
        content["name"],
        DataSource(**{**source, **{key: found(source[key]) for key in ("images", "annotations", "pngs")}}),
        content["num_images"],
        None if content["only"] is None else frozenset(content["only"]),
        {key: str(found(path)) for key, path in content["paths"].items()},
        content["num_videos"],
    )
    return CustomDataset(
        content["kind"], content["categories"], content["ignore_label"], part, part, report=Report(), notes=[]
    )
