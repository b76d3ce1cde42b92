"""Names of the data sets that are registered, and the catalogues of a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

SPLITS = ("train", "val")
OWN = [
    "coco_sample_panoptic",
    *(f"coco_2017_{split}_panoptic_with_sem_seg" for split in SPLITS),
    *(f"quickstart_{split}_{task}" for split in SPLITS for task in ("panoptic", "instance", "sem_seg")),
    *(f"camvid_{split}_sem_seg" for split in SPLITS),
    *(f"nuclei_{split}_{task}" for split in SPLITS for task in ("panoptic", "instance")),
    *(f"nuclei_{split}_{task}_fluo256" for split in SPLITS for task in ("panoptic", "instance")),
    *(f"ade20k_{task}_{split}" for split in SPLITS for task in ("panoptic", "instance", "full_sem_seg")),
    *(f"mapillary_vistas_{task}_{split}" for split in SPLITS for task in ("panoptic", "sem_seg")),
    *(f"coco_2017_{split}_stuff_10k_sem_seg" for split in ("train", "test")),
    *(f"pascal_context_{count}_sem_seg_{split}" for count in (59, 60) for split in SPLITS),
]  # fmt: skip
DETECTRON2S = [
    f"{name}{split}{end}"
    for split in SPLITS
    for name, end in (
        ("coco_2017_", ""),
        ("coco_2017_", "_panoptic"),
        ("ade20k_sem_seg_", ""),
        ("cityscapes_fine_panoptic_", ""),
        ("cityscapes_fine_instance_seg_", ""),
        ("cityscapes_fine_sem_seg_", ""),
    )
]


@pytest.fixture(autouse=True)
def catalogs_as_at_import() -> Iterator[None]:
    """Each test starts with what Detectron2 registers itself, and leaves what it found."""
    saved = dict(DatasetCatalog.data), dict(MetadataCatalog.data)
    for name in OWN:
        DatasetCatalog.data.pop(name, None)
        MetadataCatalog.data.pop(name, None)
    yield
    DatasetCatalog.data, MetadataCatalog.data = saved
