"""DATALOADER.ON_BAD_IMAGE: images that cannot be read stop a run, or are left out and said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.data.common import DatasetFromList, MapDataset
from PIL import Image

from mask2former.data.images.limits import ImageError
from mask2former.data.mapper import Mapper
from mask2former.data.mapper.bad_images import MOST_IN_A_ROW, BadImages, InPlaceOfBad


@pytest.fixture
def records(tmp_path: Path) -> list[dict[str, Any]]:
    """Six images of one colour each; the third is cut off, the fifth missing."""
    for number in range(6):
        Image.new("RGB", (32, 24), (number, 9, 9)).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:60])
    (tmp_path / "4.png").unlink()
    paths = [str(tmp_path / f"{number}.png") for number in range(6)]
    return [
        {"file_name": path, "image_id": number, "height": 24, "width": 32, "annotations": []}
        for number, path in enumerate(paths)
    ]


@pytest.fixture
def cfg(mapper_cfg: Callable[..., CfgNode], tmp_path: Path) -> CfgNode:
    cfg = mapper_cfg("mask_former_instance", 2, MIN_SIZE_TEST=24)
    cfg.OUTPUT_DIR = str(tmp_path / "run")
    cfg.DATALOADER.ON_BAD_IMAGE = "skip"
    return cfg


@pytest.mark.parametrize("workers", [0, 2])
def test_training_takes_other_images(cfg: CfgNode, records: list[dict[str, Any]], workers: int) -> None:
    images = BadImages.of(cfg.OUTPUT_DIR)
    data = MapDataset(DatasetFromList(records), InPlaceOfBad(Mapper(cfg, True), records, images))
    loader = torch.utils.data.DataLoader(data, batch_size=None, num_workers=workers)
    found = [int(one["image"][0, 0, 0]) for one in loader]
    assert len(found) == 6 and set(found) <= {0, 1, 3, 5}
    bad = images.since(0)
    assert {Path(name).name for name in bad} == {"2.png", "4.png"}
    assert all(Path(name).name in error for name, error in bad.items())


def test_evaluation_keeps_every_image_once(cfg: CfgNode, records: list[dict[str, Any]]) -> None:
    loader = build_detection_test_loader(records, mapper=Mapper(cfg, False), num_workers=2)
    found = {one["image_id"]: one["image"] for [one] in loader}
    assert list(found) == [0, 1, 2, 3, 4, 5]
    for number, image in found.items():
        assert image.shape == (3, 24, 32)
        assert int(image[1].max()) == (0 if number in (2, 4) else 9)
    assert len(BadImages.of(cfg.OUTPUT_DIR).since(0)) == 2


@pytest.mark.parametrize("is_train", [True, False])
def test_by_default_the_run_stops(cfg: CfgNode, records: list[dict[str, Any]], is_train: bool) -> None:
    cfg.DATALOADER.ON_BAD_IMAGE = "stop"
    mapper = Mapper(cfg, is_train)
    assert mapper(records[1]) is not None
    with pytest.raises(ImageError, match=r"2\.png.*DATALOADER.ON_BAD_IMAGE skip leaves"):
        mapper(records[2])
    with pytest.raises(FileNotFoundError, match=r"4\.png"):
        mapper(records[4])
    assert not Path(cfg.OUTPUT_DIR).exists()


def test_the_choice_is_checked(cfg: CfgNode) -> None:
    cfg.DATALOADER.ON_BAD_IMAGE = "ignore"
    with pytest.raises(ValueError, match=r"ON_BAD_IMAGE is 'ignore'; choose stop or skip"):
        Mapper(cfg, True)


def test_wrong_annotations_still_stop(cfg: CfgNode, records: list[dict[str, Any]]) -> None:
    """A class that does not exist is a fault of the configuration, and no bad file."""
    records[0]["annotations"] = [{"category_id": 7, "segmentation": [[0, 0, 9, 0, 9, 9]]}]
    with pytest.raises(ValueError, match="class 7"):
        Mapper(cfg, True)(records[0])


def test_a_folder_that_is_wrong_ends_the_run(cfg: CfgNode, records: list[dict[str, Any]]) -> None:
    mapper = InPlaceOfBad(Mapper(cfg, True), [records[4]], BadImages.of(cfg.OUTPUT_DIR))
    assert mapper(records[0])["image_id"] == 0
    with pytest.raises(ValueError, match=rf"{MOST_IN_A_ROW} images in a row.*4\.png.*bad_images\.jsonl"):
        mapper(records[4])


def test_images_over_the_limit_are_bad(cfg: CfgNode, records: list[dict[str, Any]]) -> None:
    cfg.INPUT.MAX_PIXELS = 24 * 32 - 1
    with pytest.raises(ImageError, match="limit of 767"):
        Mapper(cfg, True)(records[0])
    assert int(Mapper(cfg, False)(records[1])["image"].max()) == 0
    cfg.INPUT.MAX_PIXELS = 24 * 32
    assert Mapper(cfg, True)(records[0])["image"].shape == (3, 24, 32)


def test_the_list_speaks_of_its_own_run(tmp_path: Path) -> None:
    images = BadImages.of(str(tmp_path))
    images.add({"file_name": "a"}, ValueError("a is cut"))
    start = images.end()
    for _ in range(2):
        images.add({"file_name": "b"}, ValueError("b is cut"))
    assert images.since(start) == {"b": "b is cut"}
    assert list(images.since(0)) == ["a", "b"]
