"""The mapper: its presets, what it passes on and what it refuses."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetFromList, MapDataset
from detectron2.data import transforms as T
from detectron2.data.detection_utils import SizeMismatchError
from detectron2.structures import BitMasks
from PIL import Image

from mask2former.data.mapper.augmentation import RandomCropCategoryArea
from mask2former.data.mapper.mapper import PRESETS, Mapper

HEIGHT, WIDTH = 24, 32


@pytest.fixture
def record(image: Path, save_png: Callable[..., str]) -> dict[str, Any]:
    """One image annotated for all three tasks: class 0 at the left, class 2 at the right, nothing in between."""
    labels = np.full((HEIGHT, WIDTH), 255, np.uint8)
    labels[:, :10], labels[:, 20:] = 0, 2
    ids = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    ids[:, :10, 1], ids[:, 20:, 2] = 3, 7
    return {
        "file_name": str(image),
        "image_id": 5,
        "height": HEIGHT,
        "width": WIDTH,
        "annotations": [
            {"category_id": 0, "iscrowd": 0, "segmentation": [[0, 0, 10, 0, 10, HEIGHT, 0, HEIGHT]]},
            {
                "category_id": 2,
                "iscrowd": 0,
                "segmentation": {"size": [HEIGHT, WIDTH], "counts": [20 * HEIGHT, 12 * HEIGHT]},
            },
        ],
        "segments_info": [{"id": 3 * 256, "category_id": 0}, {"id": 7 * 65536, "category_id": 2}],
        "pan_seg_file_name": save_png(ids, "ids.png"),
        "sem_seg_file_name": save_png(labels, "labels.png"),
    }


@pytest.mark.parametrize("preset", PRESETS)
def test_all_presets_give_the_same_objects(preset: str, record: dict[str, Any], make_mapper: Callable) -> None:
    before = copy.deepcopy(record)
    result = make_mapper(preset, 3)(record)
    assert record == before
    assert set(result) == {"file_name", "image_id", "height", "width", "image", "instances"}
    assert (result["image_id"], result["height"], result["width"]) == (5, HEIGHT, WIDTH)
    # Large-scale jitter at scale 1 fits 24 x 32 into 48 x 48: 36 x 48 and padding.
    scale, size = (1.5, (48, 48)) if preset.endswith("lsj") else (1.0, (HEIGHT, WIDTH))
    assert result["image"].dtype == torch.uint8 and result["image"].shape == (3, *size)
    instances = result["instances"]
    assert instances.image_size == size
    assert instances.gt_classes.dtype == torch.int64 and instances.gt_classes.tolist() == [0, 2]
    assert isinstance(instances.gt_masks, BitMasks) and instances.gt_masks.tensor.dtype == torch.bool
    expected = torch.zeros(2, *size, dtype=torch.bool)
    expected[0, : int(HEIGHT * scale), : int(10 * scale)] = True
    expected[1, : int(HEIGHT * scale), int(20 * scale) : int(32 * scale)] = True
    assert torch.equal(instances.gt_masks.tensor, expected)


@pytest.mark.parametrize("preset", PRESETS)
def test_images_without_objects(preset: str, image: Path, save_png: Callable[..., str], make_mapper: Callable) -> None:
    empty = {
        "file_name": str(image),
        "annotations": [],
        "segments_info": [],
        "sem_seg_file_name": save_png(np.full((HEIGHT, WIDTH), 255, np.uint8), "labels.png"),
    }
    result = make_mapper(preset, 3, COLOR_AUG_SSD=True, SIZE_DIVISIBILITY=64, RANDOM_FLIP="horizontal")(empty)
    instances = result["instances"]
    assert len(instances) == 0
    assert instances.gt_masks.tensor.shape == (0, *result["image"].shape[1:])
    assert (result["height"], result["width"]) == (HEIGHT, WIDTH)


@pytest.mark.parametrize("preset", ["mask_former_semantic", "mask_former_panoptic", "mask_former_instance"])
def test_objects_that_the_crop_cuts_off_are_dropped(preset: str, record: dict[str, Any], mapper_cfg: Callable) -> None:
    cfg = mapper_cfg(preset, 3)
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = True, "absolute", [24, 6]
    mapper = Mapper(cfg, True)
    counts = set()
    np.random.seed(0)
    for _ in range(40):
        instances = mapper(record)["instances"]
        assert instances.image_size == (24, 6)
        assert instances.gt_masks.tensor.any(dim=(1, 2)).all()
        counts.add(len(instances))
    assert counts == {0, 1}


@pytest.mark.parametrize(
    ("task", "crop"),
    [
        ("semantic", RandomCropCategoryArea),
        ("panoptic", RandomCropCategoryArea),
        ("instance", T.RandomCrop),  # most pixels belong to no instance, so a share of them says nothing
    ],
)
def test_crop_with_class_constraint(task: str, crop: type, record: dict[str, Any], mapper_cfg: Callable) -> None:
    cfg = mapper_cfg(f"mask_former_{task}", 3)
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = True, "absolute", [16, 16]
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 0.75
    mapper = Mapper(cfg, True)
    assert crop in [type(getattr(one, "augmentation", one)) for one in mapper.augmentations.augs]
    assert mapper(record)["image"].shape == (3, 16, 16)


def test_ignore_value_of_the_configuration(
    record: dict[str, Any], mapper_cfg: Callable, save_png: Callable[..., str]
) -> None:
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[:4] = 65
    record["sem_seg_file_name"] = save_png(labels, "mapillary.png")
    cfg = mapper_cfg("mask_former_semantic", 65)
    cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = 65
    instances = Mapper(cfg, True)(record)["instances"]
    assert instances.gt_classes.tolist() == [0] and not instances.gt_masks.tensor[0, :4].any()


def test_the_same_seed_gives_the_same_result(record: dict[str, Any], make_mapper: Callable) -> None:
    mapper = make_mapper("coco_panoptic_lsj", 3, MIN_SCALE=0.1, MAX_SCALE=2.0, RANDOM_FLIP="horizontal")
    results = []
    for seed in (3, 3, 4):
        np.random.seed(seed)
        results.append(mapper(record)["image"])
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


@pytest.mark.parametrize("preset", PRESETS)
def test_works_in_worker_processes(preset: str, record: dict[str, Any], make_mapper: Callable) -> None:
    mapper = pickle.loads(pickle.dumps(make_mapper(preset, 3, COLOR_AUG_SSD=True)))
    data = MapDataset(DatasetFromList([record] * 3), mapper)
    loader = torch.utils.data.DataLoader(data, batch_size=None, num_workers=1)
    assert [len(item["instances"]) for item in loader] == [2, 2, 2]


def test_inference_gives_the_image_alone(record: dict[str, Any], mapper_cfg: Callable) -> None:
    cfg = mapper_cfg("mask_former_panoptic", 3)
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 48, 640
    result = Mapper(cfg, False)(record)
    assert set(result) == {"file_name", "image_id", "height", "width", "image"}
    assert result["image"].shape == (3, 48, 64) and result["height"] == HEIGHT


def test_grey_images(record: dict[str, Any], make_mapper: Callable, tmp_path: Path) -> None:
    Image.fromarray(np.full((HEIGHT, WIDTH), 90, np.uint8)).save(tmp_path / "grey.png")
    result = make_mapper("mask_former_panoptic", 3)({**record, "file_name": str(tmp_path / "grey.png")})
    assert result["image"].shape == (3, HEIGHT, WIDTH) and (result["image"] == 90).all()


def test_image_of_another_size_than_annotated(record: dict[str, Any], make_mapper: Callable) -> None:
    with pytest.raises(SizeMismatchError, match=r"image\.png"):
        make_mapper("mask_former_panoptic", 3)({**record, "width": WIDTH + 1})


def test_class_beyond_the_model(record: dict[str, Any], make_mapper: Callable) -> None:
    for preset, name in (("panoptic", r"image\.png"), ("instance", r"image\.png"), ("semantic", r"labels\.png")):
        with pytest.raises(ValueError, match=f"{name}.*NUM_CLASSES"):
            make_mapper(f"mask_former_{preset}", 2)(record)


def test_unknown_preset(mapper_cfg: Callable) -> None:
    with pytest.raises(ValueError, match="coco_panoptic_lsj"):
        Mapper(mapper_cfg("coco_panoptic", 3), True)
