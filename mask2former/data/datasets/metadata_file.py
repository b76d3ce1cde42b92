"""Write a data set's class names, colours and ids beside trained weights, so that these need no data set to be used."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
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
    for key in ("thing_classes", "stuff_classes"):
        if key in facts:
            facts[key] = [str(class_name) for class_name in facts[key]]  # registered ones may be numbers
    write_text(file, json.dumps({"name": name, **facts}, indent=1))


def read_metadata(file: str | Path) -> Metadata:
    """Read the metadata in a file of :func:`write_metadata`.

    Detectron2's catalog is neither read nor changed, because two files may use one name for different data sets.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file was not written by :func:`write_metadata`, or a value is not of its type.
    """
    return Metadata(**_facts(Path(file)))


def _facts(file: Path) -> dict[str, Any]:
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not a file of classes as training writes it ({error!r}).") from error
    if not isinstance(facts, dict) or not isinstance(facts.get("name"), str):
        raise ValueError(f"{file}: not a file of classes as training writes it (found no object with a 'name').")
    if unknown := set(facts) - {"name", *FACTS}:
        raise ValueError(f"{file}: found the unknown keys {sorted(unknown)}; known keys are {FACTS}.")
    for key, value in facts.items():
        fits, form = FORMS.get(key, FORMS["name"])
        if not fits(value):
            raise ValueError(f"{file}: {key!r} has to be {form}; found {value!r:.80}.")
    return {
        key: {int(id_): place for id_, place in value.items()} if key in IDS else value for key, value in facts.items()
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _are_colors(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(color, list) and len(color) == 3 and all(_is_number(part) and 0 <= part < 256 for part in color)
        for color in value
    )


def _are_ids(value: Any) -> bool:
    """Tell whether a json object maps ids, which json writes as texts, to classes from 0 on."""
    return isinstance(value, dict) and all(
        re.fullmatch(r"-?\d{1,18}", id_, re.ASCII) and _is_number(place) and place >= 0 for id_, place in value.items()
    )


# key -> (test, form that it tests for); those that are not listed are texts, as "name" is
FORMS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (lambda value: isinstance(value, str), "a text"),
    **{f"{kind}_classes": (_are_names, "a list of names") for kind in ("thing", "stuff")},
    **{f"{kind}_colors": (_are_colors, "a list of colours [R, G, B], 0 to 255") for kind in ("thing", "stuff")},
    **dict.fromkeys(IDS, (_are_ids, "an object of category ids and classes from 0 on")),
    "ignore_label": (_is_number, "an integer"),
    "label_divisor": (lambda value: _is_number(value) and value > 0, "an integer above 0"),
}
