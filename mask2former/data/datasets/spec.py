"""The specification of a data set, and the loaders and metadata that several data sets share, by task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from detectron2.data.catalog import Metadata

from mask2former.data.datasets.categories import Category, instance_metadata, panoptic_metadata, semantic_metadata
from mask2former.data.datasets.panoptic_subset import image_ids, write_subset
from mask2former.data.datasets.readers import Record, read_coco_instances, read_coco_panoptic, read_sem_seg

IGNORE_LABEL = 255


@dataclass(frozen=True)
class DatasetSpec:
    """One data set to register.

    Attributes:
        name: name in Detectron2's catalogs.
        load: maps the metadata to the list of data set dicts.
        paths: metadata key -> path below the root.
        metadata: returns all other metadata, called when they are needed; None for data sets that Detectron2 registers
            itself, whose metadata is kept.
    """

    name: str
    load: Callable[[Metadata], list[Record]]
    paths: dict[str, str]
    metadata: Callable[[], dict[str, Any]] | None


# Loaders: metadata -> data set dicts.


def load_panoptic(meta: Metadata) -> list[Record]:
    return read_coco_panoptic(
        meta.panoptic_json,
        meta.panoptic_root,
        meta.image_root,
        meta.thing_dataset_id_to_contiguous_id,
        meta.stuff_dataset_id_to_contiguous_id,
        meta.get("sem_seg_root"),
    )


def load_panoptic_subset(meta: Metadata) -> list[Record]:
    write_subset(meta.subset_of, image_ids(meta.json_file), meta.panoptic_json)
    return load_panoptic(meta)


def load_instances(meta: Metadata) -> list[Record]:
    return read_coco_instances(meta.json_file, meta.image_root, meta.thing_dataset_id_to_contiguous_id)


def load_sem_seg(meta: Metadata) -> list[Record]:
    return read_sem_seg(meta.image_root, meta.sem_seg_root)


# Metadata by task.


def panoptic_task_metadata(categories: list[Category], things_first: bool = True) -> dict[str, Any]:
    return {
        **panoptic_metadata(categories, things_first),
        "evaluator_type": "coco_panoptic_seg",
        "ignore_label": IGNORE_LABEL,
        "label_divisor": 1000,
    }


def instance_task_metadata(categories: list[Category]) -> dict[str, Any]:
    return {**instance_metadata(categories), "evaluator_type": "coco"}


def sem_seg_task_metadata(categories: list[Category], ignore_label: int = IGNORE_LABEL) -> dict[str, Any]:
    return {**semantic_metadata(categories), "evaluator_type": "sem_seg", "ignore_label": ignore_label}
