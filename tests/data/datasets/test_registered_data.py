"""Registered data sets, loaded from small copies: their views agree, and the mapper reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from registered_names import catalogs_as_at_import  # noqa: F401 (a fixture of all tests here)

from mask2former.data import register_all
from mask2former.data.checks import check_dataset
from mask2former.data.mapper.annotations import semantic_objects


@pytest.fixture
def small_root(tmp_path: Path) -> Path:
    """One image of the quickstart set and two of the nuclei, one of them in the fluo256 subset."""
    image = np.zeros((4, 6, 3), np.uint8)
    image[:, 3:, 0] = 1
    image[:, :3, 0] = 2
    for folder in ("images/val", "panoptic/val", "semantic/val", "annotations"):
        (tmp_path / "quickstart" / folder).mkdir(parents=True)
    Image.fromarray(image).save(tmp_path / "quickstart/images/val/0.png")
    Image.fromarray(image).save(tmp_path / "quickstart/panoptic/val/0.png")
    Image.fromarray(image[..., 0]).save(tmp_path / "quickstart/semantic/val/0.png")
    images = [{"id": 1, "file_name": "0.png", "height": 4, "width": 6}]
    segments = [{"id": 1, "category_id": 9, "iscrowd": 0}, {"id": 2, "category_id": 3, "iscrowd": 0}]
    panoptic = {"images": images, "annotations": [{"image_id": 1, "file_name": "0.png", "segments_info": segments}]}
    (tmp_path / "quickstart/annotations/panoptic_val.json").write_text(json.dumps(panoptic))
    instance = {"id": 1, "image_id": 1, "category_id": 3, "iscrowd": 0, "segmentation": [[0, 0, 3, 0, 3, 4, 0, 4]]}
    (tmp_path / "quickstart/annotations/instances_val.json").write_text(
        json.dumps({"images": images, "annotations": [instance]})
    )

    (tmp_path / "nuclei/annotations").mkdir(parents=True)
    images = [{"id": i, "file_name": f"{i}.png", "height": 4, "width": 6} for i in (1, 2)]
    entries = [{"image_id": i, "file_name": f"{i}.png", "segments_info": []} for i in (1, 2)]
    (tmp_path / "nuclei/annotations/panoptic_val.json").write_text(
        json.dumps({"images": images, "annotations": entries, "categories": []})
    )
    (tmp_path / "nuclei/annotations/instances_val_fluo256.json").write_text(
        json.dumps({"images": images[1:], "annotations": []})
    )
    return tmp_path


def test_the_three_quickstart_views_agree(small_root: Path, make_mapper: Callable) -> None:
    register_all(str(small_root))
    (panoptic,) = DatasetCatalog.get("quickstart_val_panoptic")
    (instance,) = DatasetCatalog.get("quickstart_val_instance")
    (semantic,) = DatasetCatalog.get("quickstart_val_sem_seg")
    assert panoptic["file_name"] == instance["file_name"] == semantic["file_name"]
    assert panoptic["sem_seg_file_name"] == semantic["sem_seg_file_name"]
    assert [(s["category_id"], s["isthing"]) for s in panoptic["segments_info"]] == [(8, False), (2, True)]
    boat = make_mapper("mask_former_instance", 8, MIN_SIZE_TRAIN=(4,))(instance)["instances"]
    both = make_mapper("mask_former_panoptic", 12, MIN_SIZE_TRAIN=(4,))(panoptic)["instances"]
    assert boat.gt_classes.tolist() == [2] and both.gt_classes.tolist() == [8, 2]
    assert (boat.gt_masks.tensor[0] == both.gt_masks.tensor[1]).all()


def test_checks_follow_the_metadata(small_root: Path) -> None:
    register_all(str(small_root))
    reports = check_dataset("quickstart_val_panoptic")
    assert [(task, report.faults) for task, report in reports.items()] == [
        ("panoptic", []), ("instance", []), ("semantic", []),
    ]  # fmt: skip
    assert {name: tally.pixels for name, tally in reports["panoptic"].classes.items()} == {"boat": 12, "sky": 12}
    assert reports["instance"].classes["boat"].pixels == 12
    assert list(check_dataset("quickstart_val_sem_seg")) == ["semantic"]
    (small_root / "quickstart/images/val/0.png").unlink()
    assert all(report.faults for report in check_dataset("quickstart_val_panoptic").values())


def test_a_subset_has_its_own_ground_truth(small_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FVCORE_CACHE", str(small_root / "cache"))
    register_all(str(small_root))
    ground_truth = Path(MetadataCatalog.get("nuclei_val_panoptic_fluo256").panoptic_json)
    assert not ground_truth.exists()  # written when the data set is loaded
    assert [record["image_id"] for record in DatasetCatalog.get("nuclei_val_panoptic_fluo256")] == [2]
    content = json.loads(ground_truth.read_text())
    assert (
        [image["id"] for image in content["images"]] == [entry["image_id"] for entry in content["annotations"]] == [2]
    )
    assert small_root in ground_truth.parents
    assert len(list(ground_truth.parent.iterdir())) == 1  # no temporary file is left
    assert len(DatasetCatalog.get("nuclei_val_panoptic")) == 2


def test_mapillary_vistas(tmp_path: Path, make_mapper: Callable) -> None:
    """One image: a bird (thing), a curb (stuff), and a pixel of no class."""
    folder = tmp_path / "mapillary_vistas/validation"
    for part in ("images", "labels", "panoptic"):
        (folder / part).mkdir(parents=True)
    Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(folder / "images/a.jpg")
    Image.fromarray(np.array([[0, 0, 2], [2, 2, 65]], np.uint8)).save(folder / "labels/a.png")
    ids = np.zeros((2, 3, 3), np.uint8)
    ids[..., 0] = [[7, 7, 9], [9, 9, 0]]
    Image.fromarray(ids).save(folder / "panoptic/a.png")
    segments = [{"id": 7, "category_id": 1, "iscrowd": 0}, {"id": 9, "category_id": 3, "iscrowd": 0}]
    content = {
        "images": [{"id": "a", "file_name": "a.jpg", "height": 2, "width": 3}],
        "annotations": [{"image_id": "a", "file_name": "a.png", "segments_info": segments}],
    }
    (folder / "panoptic/panoptic_2018.json").write_text(json.dumps(content))
    register_all(str(tmp_path))
    (panoptic,) = DatasetCatalog.get("mapillary_vistas_panoptic_val")
    (semantic,) = DatasetCatalog.get("mapillary_vistas_sem_seg_val")
    assert panoptic["sem_seg_file_name"] == semantic["sem_seg_file_name"]
    assert [(s["category_id"], s["isthing"]) for s in panoptic["segments_info"]] == [(0, True), (2, False)]
    both = make_mapper("mask_former_panoptic", 65, MIN_SIZE_TRAIN=(2,))(panoptic)["instances"]
    assert both.gt_classes.tolist() == [0, 2] and not both.gt_masks.tensor[:, 1, 2].any()


def test_sixteen_bit_labels(tmp_path: Path) -> None:
    folder = tmp_path / "ADE20K_2021_17_01"
    for part in ("images_detectron2", "annotations_detectron2"):
        (folder / part / "validation").mkdir(parents=True)
    Image.fromarray(np.zeros((1, 3, 3), np.uint8)).save(folder / "images_detectron2/validation/a.jpg")
    labels = np.array([[0, 846, 65535]], np.uint16)
    Image.fromarray(labels).save(folder / "annotations_detectron2/validation/a.tif")
    register_all(str(tmp_path))
    (record,) = DatasetCatalog.get("ade20k_full_sem_seg_val")
    objects = semantic_objects(record, (1, 3), 847, MetadataCatalog.get("ade20k_full_sem_seg_val").ignore_label)
    assert objects.classes.tolist() == [0, 846]
