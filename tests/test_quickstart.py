"""The drawn data set: the same for the same seed, and right in the eyes of COCO's own readers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from panopticapi.evaluation import pq_compute_single_core
from panopticapi.utils import rgb2id
from pycocotools.coco import COCO

from mask2former_shapes import draw as draw_quickstart
from mask2former_shapes import scene as scenes
from mask2former_shapes.annotations import load_categories
from mask2former_shapes.scene import LEAST_VISIBLE, draw_scene
from mask2former_shapes.stage import STUFF

SCRIPT = Path(__file__).parents[1] / "datasets" / "draw_quickstart.py"

CATEGORIES = load_categories()
TRAIN, VAL = 6, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set, drawn by the command as a user runs it."""
    root = tmp_path_factory.mktemp("drawn")
    command = [sys.executable, str(SCRIPT), "--root", str(root), "--train", str(TRAIN), "--val", str(VAL)]
    done = subprocess.run([*command, "--workers", "2"], capture_output=True, text=True, check=True)
    assert str(root / "quickstart") in done.stdout
    return root / "quickstart"


def draw(root: Path, *options: object) -> dict[str, bytes]:
    """Run the command; returns the files of the set by name."""
    draw_quickstart.main(["--root", str(root), "--train", str(TRAIN), "--val", str(VAL), *map(str, options)])
    return contents(root / "quickstart")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def read(file: Path) -> np.ndarray:
    image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    return image[:, :, ::-1] if image.ndim == 3 else image


def panoptic(folder: Path, split: str) -> list[tuple[dict[str, Any], np.ndarray]]:
    """(annotation, [H, W] ids) of each image."""
    content = json.loads((folder / "annotations" / f"panoptic_{split}.json").read_text())
    return [(a, rgb2id(read(folder / "panoptic" / split / a["file_name"]))) for a in content["annotations"]]


@pytest.mark.parametrize(("split", "count"), [("train", TRAIN), ("val", VAL)])
def test_layout(folder: Path, split: str, count: int) -> None:
    names = sorted(file.name for file in (folder / "images" / split).iterdir())
    assert len(names) == count
    for kind in ("panoptic", "semantic"):
        assert sorted(file.name for file in (folder / kind / split).iterdir()) == names
    for name in names:
        assert read(folder / "images" / split / name).shape == (128, 128, 3)
    for kind in ("panoptic", "instances"):
        images = json.loads((folder / "annotations" / f"{kind}_{split}.json").read_text())["images"]
        assert [(image["file_name"], image["height"], image["width"]) for image in images] == [
            (name, 128, 128) for name in names
        ]


@pytest.mark.parametrize("split", ["train", "val"])
def test_panoptic_pngs_are_what_the_json_says(folder: Path, split: str) -> None:
    for annotation, ids in panoptic(folder, split):
        segments = annotation["segments_info"]
        assert sorted(segment["id"] for segment in segments) == np.unique(ids).tolist()
        for segment in segments:
            rows, columns = np.nonzero(ids == segment["id"])
            left, top = columns.min(), rows.min()
            assert segment["area"] == len(rows)
            assert segment["bbox"] == [left, top, columns.max() + 1 - left, rows.max() + 1 - top]
            assert segment["iscrowd"] == 0
        stuff = [s["category_id"] for s in segments if not category(s["category_id"])["isthing"]]
        assert len(set(stuff)) == len(stuff), "stuff has one segment of each kind"


def category(category_id: int) -> dict[str, Any]:
    return next(c for c in CATEGORIES if c["id"] == category_id)


def test_panopticapi_finds_it_perfect(folder: Path) -> None:
    content = json.loads((folder / "annotations" / "panoptic_val.json").read_text())
    pairs = [(annotation, annotation) for annotation in content["annotations"]]
    pngs = str(folder / "panoptic" / "val")
    stat = pq_compute_single_core(0, pairs, pngs, pngs, {c["id"]: c for c in content["categories"]})
    quality, per_class = stat.pq_average({c["id"]: c for c in content["categories"]}, isthing=None)
    assert quality["pq"] == 1.0
    assert len(per_class) == len(CATEGORIES)


@pytest.mark.parametrize("split", ["train", "val"])
def test_instances_are_the_things_of_the_panoptic_pngs(folder: Path, split: str) -> None:
    coco = COCO(str(folder / "annotations" / f"instances_{split}.json"))
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == [c["name"] for c in CATEGORIES if c["isthing"]]
    for annotation, ids in panoptic(folder, split):
        things = [s for s in annotation["segments_info"] if category(s["category_id"])["isthing"]]
        instances = coco.loadAnns(coco.getAnnIds(imgIds=annotation["image_id"]))
        assert len(things) == len(instances) > 0
        for thing, instance in zip(things, instances, strict=True):
            assert np.array_equal(coco.annToMask(instance), ids == thing["id"])
            assert {key: instance[key] for key in ("category_id", "area", "bbox", "iscrowd")} == {
                key: thing[key] for key in ("category_id", "area", "bbox", "iscrowd")
            }


@pytest.mark.parametrize("split", ["train", "val"])
def test_semantic_pngs_are_the_classes_of_the_panoptic_pngs(folder: Path, split: str) -> None:
    numbers = {c["id"]: number for number, c in enumerate(CATEGORIES)}
    for annotation, ids in panoptic(folder, split):
        classes = read(folder / "semantic" / split / annotation["file_name"])
        assert classes.dtype == np.uint8
        assert classes.shape == ids.shape
        for segment in annotation["segments_info"]:
            assert np.all(classes[ids == segment["id"]] == numbers[segment["category_id"]])


def test_the_same_whatever_the_workers_and_another_for_another_seed(folder: Path, tmp_path: Path) -> None:
    alone = draw(tmp_path / "alone", "--workers", 1)
    assert alone == contents(folder)
    other = draw(tmp_path / "other", "--seed", 1)
    same = [name for name in other if name.startswith("images") and other[name] == alone[name]]
    assert not same


def test_an_image_does_not_depend_on_how_many_there_are(folder: Path, tmp_path: Path) -> None:
    draw_quickstart.main(["--root", str(tmp_path), "--train", "2", "--val", "0"])
    for file in (tmp_path / "quickstart" / "images" / "train").iterdir():
        assert file.read_bytes() == (folder / "images" / "train" / file.name).read_bytes()
    assert json.loads((tmp_path / "quickstart/annotations/panoptic_val.json").read_text())["images"] == []


FORK = """
import sys
sys.path.insert(0, {root_folder!r})
import cv2, numpy
cv2.setNumThreads(4)
cv2.GaussianBlur(numpy.zeros((2000, 2000), numpy.float32), (31, 31), 5)  # starts OpenCV's threads
from mask2former_shapes import draw
draw.main(["--root", {root!r}, "--train", "2", "--val", "2", "--workers", "2"])
"""


def test_opencv_may_have_run_before(tmp_path: Path) -> None:
    """Processes that are forked beside OpenCV's threads waited for these without end."""
    code = FORK.format(root_folder=str(SCRIPT.parents[1]), root=str(tmp_path))
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, capture_output=True)
    assert len(list((tmp_path / "quickstart" / "images" / "train").iterdir())) == 2


def test_draws_only_what_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path
    before = draw(root)
    marked = root / "quickstart" / "images" / "val" / "000001.png"
    marked.write_bytes(b"mark")
    draw(root)
    assert marked.read_bytes() == b"mark"
    assert "already" in capsys.readouterr().out
    assert draw(root, "--force") == before
    # Other parameters draw anew and leave nothing of the longer set behind.
    draw(root, "--val", 1)
    assert [file.name for file in marked.parent.iterdir()] == ["000001.png"]
    # An interrupted run left no stamp: everything is drawn again.
    (root / "quickstart" / draw_quickstart.STAMP).unlink()
    marked.write_bytes(b"mark")
    assert draw(root) == before
    # So it is where images have gone since, as from a copy that was cut short.
    marked.unlink()
    assert draw(root) == before


@pytest.mark.parametrize("options", [["--size", "8", "8"], ["--val", "-1"], ["--workers", "0"]])
def test_refuses_senseless_options(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        draw_quickstart.main(["--root", str(tmp_path), *options])
    assert options[0] in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_every_category_occurs_often_enough() -> None:
    drawn = [draw_scene((0, 1, index), 128, 128) for index in range(100)]
    counts = Counter(name for scene in drawn for name in scene.names)
    assert set(counts) == {c["name"] for c in CATEGORIES}
    assert min(counts.values()) >= 20, counts
    things = [scene.things for scene in drawn]
    assert np.mean(things) > 4
    assert min(things) >= 1


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32), st.integers(48, 180), st.integers(48, 180))
def test_scenes_of_any_size_are_whole(seed: int, height: int, width: int) -> None:
    scene = draw_scene((seed,), height, width)
    assert scene.image.shape == (height, width, 3)
    assert scene.image.dtype == np.uint8
    assert scene.segments.shape == (height, width)
    areas = np.bincount(scene.segments.ravel())
    assert len(areas) == len(scene.names)
    assert areas.min() >= LEAST_VISIBLE
    stuff = [name for name in scene.names if name in STUFF]
    assert scene.names[: len(stuff)] == stuff
    assert len(scene.names) == len(stuff) + scene.things


def test_the_majority_of_a_pixel_decides() -> None:
    block = np.array([[5, 5, 2], [2, 7, 2], [7, 5, 5]])
    tie = np.array([[9, 9, 3], [3, 9, 3], [9, 3, 1]])
    blocks = np.concatenate([block, tie, np.full((3, 3), 4)], axis=1)
    assert scenes._majority(blocks).tolist() == [[5, 3, 4]]


def test_crumbs_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Things that hardly show are taken out, and a scene with hardly any of some stuff is drawn anew."""
    usual = [draw_scene((4, index), 64, 64) for index in range(15)]
    assert min(np.bincount(scene.segments.ravel()).min() for scene in usual) < 100
    monkeypatch.setattr(scenes, "LEAST_VISIBLE", 100)
    strict = [draw_scene((4, index), 64, 64) for index in range(15)]
    assert min(np.bincount(scene.segments.ravel()).min() for scene in strict) >= 100


def test_the_image_shows_what_the_ids_say() -> None:
    """Things stand out from what is around them; they would not if image and ids were not of the same scene."""
    contrasts = []
    for index in range(20):
        scene = draw_scene((3, index), 128, 128)
        image = scene.image.astype(float)
        for number in range(len(scene.names) - scene.things, len(scene.names)):
            mask = (scene.segments == number).astype(np.uint8)
            around = cv2.dilate(mask, np.ones((9, 9), np.uint8)) - mask
            contrasts.append(np.abs(image[mask > 0].mean(axis=0) - image[around > 0].mean(axis=0)).max())
    assert np.median(contrasts) > 30
    assert np.quantile(contrasts, 0.1) > 15
