"""Data sets of published systems beyond those that Detectron2 registers itself, under their published names.

Things and stuff keep their places in the tables, because published weights have learnt these numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from mask2former.data.datasets.categories import load_categories
from mask2former.data.datasets.spec import (
    DatasetSpec,
    instance_task_metadata,
    load_instances,
    load_panoptic,
    load_sem_seg,
    panoptic_task_metadata,
    sem_seg_task_metadata,
)

VISTAS_IGNORE_LABEL = 65  # "unlabeled"
ADE20K_FULL_IGNORE_LABEL = 65535  # its label files have 16 bits


def published_rows() -> Iterator[DatasetSpec]:
    for split, part in (("train", "training"), ("val", "validation")):
        yield from _ade20k_rows(split, part)
        yield from _vistas_rows(split, part)
        yield DatasetSpec(
            f"ade20k_full_sem_seg_{split}",
            load_sem_seg,
            {
                "image_root": f"ADE20K_2021_17_01/images_detectron2/{part}",
                "sem_seg_root": f"ADE20K_2021_17_01/annotations_detectron2/{part}",
            },
            lambda: sem_seg_task_metadata(load_categories("ade20k_full"), ADE20K_FULL_IGNORE_LABEL),
        )
        yield from _pascal_context_rows(split)
    for split in ("train", "test"):
        yield DatasetSpec(
            f"coco_2017_{split}_stuff_10k_sem_seg",
            load_sem_seg,
            {
                "image_root": f"coco/coco_stuff_10k/images_detectron2/{split}",
                "sem_seg_root": f"coco/coco_stuff_10k/annotations_detectron2/{split}",
            },
            lambda: sem_seg_task_metadata(load_categories("coco_stuff_10k")),
        )


def _ade20k_rows(split: str, part: str) -> Iterator[DatasetSpec]:
    root = "ADEChallengeData2016"
    images = {"image_root": f"{root}/images/{part}"}
    instances = {"json_file": f"{root}/ade20k_instance_{split}.json"}
    panoptic = {
        "panoptic_json": f"{root}/ade20k_panoptic_{split}.json",
        "panoptic_root": f"{root}/ade20k_panoptic_{split}",
        "sem_seg_root": f"{root}/annotations_detectron2/{part}",
    }
    yield DatasetSpec(
        f"ade20k_panoptic_{split}",
        load_panoptic,
        images | instances | panoptic,
        lambda: {
            **panoptic_task_metadata(load_categories("ade20k_panoptic"), things_first=False),
            "evaluator_type": "ade20k_panoptic_seg",
        },
    )
    yield DatasetSpec(
        f"ade20k_instance_{split}",
        load_instances,
        images | instances,
        lambda: instance_task_metadata(load_categories("ade20k_instance")),
    )


def _vistas_rows(split: str, part: str) -> Iterator[DatasetSpec]:
    root = f"mapillary_vistas/{part}"
    labels = {"image_root": f"{root}/images", "sem_seg_root": f"{root}/labels"}
    panoptic = {"panoptic_json": f"{root}/panoptic/panoptic_2018.json", "panoptic_root": f"{root}/panoptic"}
    yield DatasetSpec(
        f"mapillary_vistas_panoptic_{split}",
        load_panoptic,
        labels | panoptic,
        lambda: {
            **panoptic_task_metadata(load_categories("mapillary_vistas"), things_first=False),
            "evaluator_type": "mapillary_vistas_panoptic_seg",
            "ignore_label": VISTAS_IGNORE_LABEL,
        },
    )
    yield DatasetSpec(
        f"mapillary_vistas_sem_seg_{split}",
        load_sem_seg,
        labels,
        lambda: sem_seg_task_metadata(load_categories("mapillary_vistas"), VISTAS_IGNORE_LABEL),
    )


def _pascal_context_rows(split: str) -> Iterator[DatasetSpec]:
    """PASCAL-Context's 59 classes; the form with 60 has "background", for all others, as class 0."""
    root = "VOCdevkit/VOC2010"
    for count in (59, 60):
        yield DatasetSpec(
            f"pascal_context_{count}_sem_seg_{split}",
            load_sem_seg,
            {
                "image_root": f"{root}/images_detectron2/{split}",
                "sem_seg_root": f"{root}/annotations_detectron2/pascal_context_{count}/{split}",
            },
            functools.partial(_pascal_context_metadata, count),
        )


def _pascal_context_metadata(count: int) -> dict[str, Any]:
    return sem_seg_task_metadata(load_categories("pascal_context")[-count:])
