"""Annotation files, good and bad."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mask2former.data.datasets.readers import read_coco_instances, read_coco_panoptic, read_sem_seg

THINGS, STUFF = {7: 0, 9: 1}, {7: 0, 9: 1, 3: 2}
PANOPTIC = {
    "images": [
        {"id": 11, "file_name": "a.jpg", "height": 4, "width": 5},
        {"id": 12, "file_name": "b.jpg", "height": 4, "width": 5},
    ],
    "annotations": [
        {
            "image_id": 11,
            "file_name": "a.png",
            "segments_info": [
                {"id": 1, "category_id": 9, "iscrowd": 0},
                {"id": 2, "category_id": 3, "iscrowd": 0},
            ],
        }
    ],
}
INSTANCES = {
    "images": PANOPTIC["images"],
    "annotations": [
        {"id": 5, "image_id": 12, "category_id": 9, "iscrowd": 0, "segmentation": [[0, 0, 3, 0, 3, 3]]},
        {"id": 6, "image_id": 12, "category_id": 7, "iscrowd": 1, "segmentation": {"size": [4, 5], "counts": [0, 20]}},
    ],
}


def changed(content: dict, path: list, value: Any) -> dict:
    """A copy with ``content[path[0]][path[1]]... = value``; the key is taken out where value is ``...``."""
    content = copy.deepcopy(content)
    entry: Any = content
    for key in path[:-1]:
        entry = entry[key]
    if value is ...:
        del entry[path[-1]]
    else:
        entry[path[-1]] = value
    return content


def test_panoptic(write_json: Callable) -> None:
    source = write_json(PANOPTIC)
    first, second = read_coco_panoptic(source, "pan", "img", THINGS, STUFF, sem_seg_root="sem")
    assert Path(first["file_name"]) == Path("img/a.jpg")
    assert Path(first["pan_seg_file_name"]) == Path("pan/a.png")
    assert Path(first["sem_seg_file_name"]) == Path("sem/a.png")
    assert (first["image_id"], first["height"], first["width"]) == (11, 4, 5)
    assert [(s["id"], s["category_id"], s["isthing"]) for s in first["segments_info"]] == [(1, 1, True), (2, 2, False)]
    assert second["segments_info"] == [] and "pan_seg_file_name" not in second  # an image without annotation


def test_panoptic_of_some_images(write_json: Callable) -> None:
    records = read_coco_panoptic(write_json(PANOPTIC), "pan", "img", THINGS, STUFF, only_images={12})
    assert [record["image_id"] for record in records] == [12]


def test_instances(write_json: Callable) -> None:
    first, second = read_coco_instances(write_json(INSTANCES), "img", THINGS)
    assert first["annotations"] == []
    assert [(a["id"], a["category_id"], a["iscrowd"]) for a in second["annotations"]] == [(5, 1, 0), (6, 0, 1)]
    assert second["annotations"][0]["segmentation"] == [[0, 0, 3, 0, 3, 3]]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["images", 0, "file_name"], "../../etc/passwd", "image 11.*passwd"),
        (["images", 0, "file_name"], "/etc/passwd", "image 11.*passwd"),
        (["images", 0, "file_name"], ..., "image 11.*'file_name' is missing"),
        (["images", 0, "height"], ..., "image 11: height and width are None and 5"),
        (["images", 1, "id"], 11, "image 11.*twice"),
        (["images"], ..., "'images' is missing"),
        (["images"], [3], "'images' has to be a list of objects"),
        (["annotations", 0, "file_name"], "../a.png", r"image 11.*\.\./a\.png"),
        (["annotations", 0, "image_id"], 99, "image 99"),
        (["annotations", 0, "segments_info", 0, "category_id"], 4, "image 11, segment 1: category 4"),
        (["annotations", 0, "segments_info"], ..., "image 11.*'segments_info' is missing"),
    ],
)
def test_panoptic_files_with_faults_are_refused(write_json: Callable, path: list, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r"annotations\.json.*" + message):
        read_coco_panoptic(write_json(changed(PANOPTIC, path, value)), "pan", "img", THINGS, STUFF)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["images", 1, "file_name"], "x/../../y.jpg", "image 12"),
        (["annotations", 0, "category_id"], 3, "annotation 5: category 3"),
        (["annotations", 0, "category_id"], ..., "annotation 5.*'category_id' is missing"),
        (["annotations", 1, "image_id"], 99, "image 99"),
    ],
)
def test_instance_files_with_faults_are_refused(write_json: Callable, path: list, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r"annotations\.json.*" + message):
        read_coco_instances(write_json(changed(INSTANCES, path, value)), "img", THINGS)


def test_files_that_are_no_coco_files(tmp_path: Path, write_json: Callable) -> None:
    (tmp_path / "half.json").write_text('{"images": [')
    with pytest.raises(ValueError, match=r"half\.json.*not a json file"):
        read_coco_instances(str(tmp_path / "half.json"), "img", THINGS)
    with pytest.raises(ValueError, match=r"annotations\.json.*list"):
        read_coco_instances(write_json([1, 2]), "img", THINGS)


def test_semantic_pairs_by_name(tmp_path: Path) -> None:
    for folder, names in (("img", ["b.jpg", "a.png", ".hidden.png", "notes.txt"]), ("sem", ["a.png", "b.png"])):
        (tmp_path / folder).mkdir()
        for name in names:
            Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / folder / name) if name[-3:] != "txt" else (
                tmp_path / folder / name
            ).write_text("x")
    records = read_sem_seg(str(tmp_path / "img"), str(tmp_path / "sem"))
    assert [record["image_id"] for record in records] == ["a", "b"]
    assert [Path(record["file_name"]).name for record in records] == ["a.png", "b.jpg"]
    assert [Path(record["sem_seg_file_name"]).name for record in records] == ["a.png", "b.png"]


@pytest.mark.parametrize("folder", ["img", "sem"])
def test_semantic_images_without_partner_are_named(tmp_path: Path, folder: str) -> None:
    for each in ("img", "sem"):
        (tmp_path / each).mkdir()
        (tmp_path / each / "a.png").touch()
    (tmp_path / folder / "lonely.png").touch()
    with pytest.raises(FileNotFoundError, match="lonely"):
        read_sem_seg(str(tmp_path / "img"), str(tmp_path / "sem"))


def test_semantic_images_that_differ_in_their_suffix_alone(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"a\.jpg and a\.png"):
        read_sem_seg(str(tmp_path), str(tmp_path))


def test_two_panoptic_annotations_of_one_image(write_json: Callable) -> None:
    twice = changed(PANOPTIC, ["annotations"], PANOPTIC["annotations"] * 2)
    with pytest.raises(ValueError, match="image 11 has two annotations"):
        read_coco_panoptic(write_json(twice), "pan", "img", THINGS, STUFF)


def test_empty_semantic_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no"):
        read_sem_seg(str(tmp_path), str(tmp_path))
