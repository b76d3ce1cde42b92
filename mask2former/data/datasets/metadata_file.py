"""Write a data set's class names, colours and ids beside trained weights, so that these need no data set to be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from detectron2.data import MetadataCatalog
from detectron2.data.catalog import Metadata

from mask2former.files import write_text

FILE_NAME = "metadata.json"  # in a training's output folder
IDS = ("thing_dataset_id_to_contiguous_id", "stuff_dataset_id_to_contiguous_id")
FACTS = (
    "thing_classes",
    "stuff_classes",
    "thing_colors",
    "stuff_colors",
    *IDS,
    "ignore_label",
    "label_divisor",
    "evaluator_type",
)


def write_metadata(name: str, file: str | Path) -> None:
    """Write the classes of a registered data set as JSON, without paths, which hold on this machine only."""
    known = MetadataCatalog.get(name).as_dict()
    facts = {key: known[key] for key in FACTS if key in known}
    write_text(file, json.dumps({"name": name, **facts}, indent=1))


def read_metadata(file: str | Path) -> Metadata:
    """Read the metadata in a file of :func:`write_metadata`.

    Detectron2's catalog is neither read nor changed, because two files may use one name for different data sets.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file was not written by :func:`write_metadata`.
    """
    return Metadata(**_facts(Path(file)))


def _facts(file: Path) -> dict[str, Any]:
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        name, unknown = facts["name"], set(facts) - {"name", *FACTS}
        ids = {key: {int(number): place for number, place in facts[key].items()} for key in IDS if key in facts}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: not a file of classes as training writes it ({error!r}).") from error
    if unknown or not isinstance(name, str):
        raise ValueError(f"{file}: found name {name!r} and the unknown keys {sorted(unknown)}; known are {FACTS}.")
    return {**facts, **ids}
