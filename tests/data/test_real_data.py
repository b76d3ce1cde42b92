"""The real data sets, where they are at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_train_loader
from pycocotools import mask as coco_mask

from mask2former.data import register_all


@pytest.fixture
def registered(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    before = MetadataCatalog.get("coco_2017_val").json_file.split("coco")[0]
    register_all(str(data_root))
    yield
    register_all(before)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("camvid_train_sem_seg", 367),
        ("camvid_val_sem_seg", 101),
        ("nuclei_train_instance", 586),
        ("nuclei_train_panoptic", 586),
        ("nuclei_val_instance", 78),
        ("nuclei_val_panoptic", 78),
        ("nuclei_train_instance_fluo256", 288),
        ("nuclei_train_panoptic_fluo256", 288),
        ("nuclei_val_instance_fluo256", 46),
        ("nuclei_val_panoptic_fluo256", 46),
        ("coco_sample_panoptic", 2),
    ],
)
def test_every_image_is_listed(name: str, count: int) -> None:
    records = DatasetCatalog.get(name)
    assert len(records) == count
    assert all(Path(record["file_name"]).is_file() for record in records)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("name", "preset", "num_classes"),
    [
        ("camvid_val_sem_seg", "mask_former_semantic", 11),
        ("nuclei_val_instance", "coco_instance_lsj", 1),
        ("nuclei_val_panoptic", "coco_panoptic_lsj", 2),
        ("coco_sample_panoptic", "mask_former_panoptic", 133),
    ],
)
def test_the_data_loader_gives_whole_batches(
    name: str, preset: str, num_classes: int, make_mapper: Callable[..., Any]
) -> None:
    records = DatasetCatalog.get(name)
    mapper = make_mapper(preset, num_classes, IMAGE_SIZE=128, MIN_SCALE=0.5, MAX_SCALE=2.0, MIN_SIZE_TRAIN=(128,))
    loader = build_detection_train_loader(records, mapper=mapper, total_batch_size=2, num_workers=0)
    batches = iter(loader)
    for _ in range(4):
        for item in next(batches):
            instances = item["instances"]
            assert item["image"].dtype == torch.uint8 and item["image"].shape[1:] == instances.image_size
            assert instances.gt_masks.tensor.any(dim=(1, 2)).all()
            assert len(instances) == 0 or instances.gt_classes.max() < num_classes


@pytest.mark.usefixtures("registered")
def test_instance_and_panoptic_annotations_of_the_nuclei_agree(make_mapper: Callable[..., Any]) -> None:
    """Two files, two readers, the same nuclei; and the areas that the files state."""
    instances = DatasetCatalog.get("nuclei_val_instance")
    panoptic = {record["image_id"]: record for record in DatasetCatalog.get("nuclei_val_panoptic")}
    for record in instances[:12]:
        inputs = {"MIN_SIZE_TRAIN": (min(record["height"], record["width"]),), "MAX_SIZE_TRAIN": 10**6}
        by_runs = make_mapper("mask_former_instance", 1, **inputs)(record)["instances"]
        other = panoptic[record["image_id"]]
        by_png = make_mapper("mask_former_panoptic", 2, **inputs)(other)["instances"]
        masks = by_png.gt_masks.tensor[by_png.gt_classes == 0]
        assert torch.equal(by_runs.gt_masks.tensor, masks)
        expected = [coco_mask.area({**a["segmentation"]}) for a in record["annotations"]]
        np.testing.assert_array_equal(masks.sum(dim=(1, 2)).numpy(), expected)
        np.testing.assert_array_equal(
            by_png.gt_masks.tensor.sum(dim=(1, 2)).numpy(), [s["area"] for s in other["segments_info"]]
        )
