"""File names in annotation files lead out of their folders nowhere: every reader refuses them, and names them.

The file outside is there and sound, so a reader that followed a name would get on. Label folders are listed, so a name
in them cannot climb. Symbolic links are followed on purpose: they are the user's own.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from PIL import Image

from mask2former.custom import DataError, build_dataset, detect_format
from mask2former.data.checks import check_instances, check_panoptic
from mask2former.data.datasets.readers import read_coco_instances, read_coco_panoptic, read_sem_seg
from mask2former.data.images.read import panoptic_png
from mask2former.evaluation.panoptic import PanopticEvaluator

NAME = "climbing"
CLIMBING = ["../{}", "inside/../../{}", "./../{}", "..\\{}", "inside\\..\\..\\{}", "{folder}/{}", "file://{folder}/{}"]
SIDE = 16
IMAGES = [{"id": 1, "file_name": "1.png", "height": SIDE, "width": SIDE}]
CATEGORIES = [{"id": 4, "name": "a", "isthing": 1}]
SQUARE = {"id": 1, "image_id": 1, "category_id": 4, "iscrowd": 0, "segmentation": [[2, 2, 9, 2, 9, 9, 2, 9]]}
SEGMENTS = {"image_id": 1, "file_name": "ids.png", "segments_info": [{"id": 5, "category_id": 4, "iscrowd": 0}]}


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A folder of sound data, and the same files outside of it."""
    data = tmp_path / "data"
    (data / "inside").mkdir(parents=True)
    for folder in (tmp_path, data):
        Image.fromarray(np.zeros((SIDE, SIDE, 3), np.uint8)).save(folder / "1.png")
        Image.fromarray(panoptic_png(np.full((SIDE, SIDE), 5))).save(folder / "ids.png")
    yield data
    if NAME in MetadataCatalog.list():
        MetadataCatalog.remove(NAME)


def file(root: Path, kind: str, part: str, name: str) -> str:
    """Write an annotation file in which the first entry of ``part`` has this file name; return its path."""
    entry = SQUARE if kind == "instance" else SEGMENTS
    content = copy.deepcopy({"images": IMAGES, "categories": CATEGORIES, "annotations": [entry]})
    content[part][0]["file_name"] = name
    (root / "a.json").write_text(json.dumps(content))
    return str(root / "a.json")


def custom(kind: str) -> Callable[[str, str], Any]:
    def read(path: str, root: str) -> Any:
        source = detect_format([path, root, *[root] * (kind == "panoptic")])
        return build_dataset(source, source, Path(root, "out"), NAME)

    return read


def faults(check: Callable[[], Any]) -> None:
    """Raise the faults of a check."""
    if found := [text for _, text, survived in check().faults if not survived]:
        raise ValueError("\n".join(found))


def evaluate(path: str, root: str) -> None:
    MetadataCatalog.get(NAME).set(
        panoptic_json=path,
        panoptic_root=root,
        thing_dataset_id_to_contiguous_id={4: 0},
        stuff_dataset_id_to_contiguous_id={},
    )
    evaluator = PanopticEvaluator(NAME)
    evaluator.reset()
    found = {"panoptic_seg": (torch.full((SIDE, SIDE), 1), [{"id": 1, "category_id": 0, "isthing": True}])}
    evaluator.process([{"image_id": 1, "file_name": "1.png"}], [found])
    assert evaluator.evaluate()["panoptic_seg"]["PQ"] == pytest.approx(100)


READERS: dict[str, tuple[str, str, Callable[[str, str], Any]]] = {
    "instances": ("instance", "images", lambda path, root: read_coco_instances(path, root, {4: 0})),
    "panoptic, images": ("panoptic", "images", lambda path, root: read_coco_panoptic(path, root, root, {4: 0}, {})),
    "panoptic, pngs": ("panoptic", "annotations", lambda path, root: read_coco_panoptic(path, root, root, {4: 0}, {})),
    "panoptic, labels": (
        "panoptic",
        "annotations",
        lambda path, root: read_coco_panoptic(path, root, root, {4: 0}, {}, sem_seg_root=root),
    ),
    "check of instances": ("instance", "images", lambda path, root: faults(lambda: check_instances(path, root))),
    "check of images": ("panoptic", "images", lambda path, root: faults(lambda: check_panoptic(path, root, root))),
    "check of pngs": ("panoptic", "annotations", lambda path, root: faults(lambda: check_panoptic(path, root, root))),
    "custom instances": ("instance", "images", custom("instance")),
    "custom panoptic, images": ("panoptic", "images", custom("panoptic")),
    "custom panoptic, pngs": ("panoptic", "annotations", custom("panoptic")),
    "evaluation": ("panoptic", "annotations", evaluate),
}


@pytest.mark.parametrize("reader", READERS)
def test_names_that_climb_are_refused(root: Path, reader: str) -> None:
    kind, part, read = READERS[reader]
    sound = "1.png" if part == "images" else "ids.png"
    read(file(root, kind, part, sound), str(root))
    for form in CLIMBING:
        path = file(root, kind, part, form.format(sound, folder=root.parent))
        with pytest.raises((ValueError, DataError), match=r"image 1: .*leads out of"):
            read(path, str(root))


def test_label_folders_hold_the_files_that_are_listed(root: Path) -> None:
    """And links in them are followed."""
    for folder in ("images", "labels"):
        (root / folder).mkdir()
        (root / folder / "1.png").symlink_to(root.parent / "1.png")
    (record,) = read_sem_seg(str(root / "images"), str(root / "labels"))
    assert {Path(record[key]).parent for key in ("file_name", "sem_seg_file_name")} == {
        root / "images",
        root / "labels",
    }
    assert np.asarray(Image.open(record["sem_seg_file_name"])).shape[:2] == (SIDE, SIDE)
