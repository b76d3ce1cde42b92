"""The checks of data sets: each kind of fault is found, named with file and id, and nothing else is."""

from __future__ import annotations

import copy
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import video_data
from PIL import Image

from mask2former.data.checks import check_annotations, check_dataset, check_instances, check_panoptic
from mask2former.data.checks.dataset import check_labels

ROOT = Path(__file__).parents[3]
NAMES = {1: "cat", 2: "sky"}
SQUARE = [[2, 2, 12, 2, 12, 12, 2, 12]]
INSTANCES: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "a.png", "height": 20, "width": 120},
        {"id": 8, "file_name": "b.png", "height": 20, "width": 120},
    ],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "sky"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 1, "iscrowd": 0, "segmentation": SQUARE},
        {"id": 2, "image_id": 7, "category_id": 2, "segmentation": {"size": [20, 120], "counts": [0, 1200, 1200]}},
        {"id": 3, "image_id": 7, "category_id": 1, "iscrowd": 1, "segmentation": SQUARE},
    ],
}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        Image.fromarray(np.zeros((20, 120, 3), np.uint8)).save(tmp_path / f"{name}.png")
    return tmp_path


@pytest.fixture
def check(images: Path) -> Callable[[Callable[[dict[str, Any]], Any]], list[str]]:
    """A change to the sound content -> the faults found, without the folder's name."""

    def run(change: Callable[[dict[str, Any]], Any]) -> list[str]:
        content = copy.deepcopy(INSTANCES)
        change(content)
        (images / "i.json").write_text(json.dumps(content))
        report = check_instances(str(images / "i.json"), str(images))
        return [f"{file}: {text}".replace(f"{images}/", "") for file, text, _ in report.faults]

    return run


def test_sound_instances_are_counted(images: Path) -> None:
    (images / "i.json").write_text(json.dumps(INSTANCES))
    report = check_instances(str(images / "i.json"), str(images), decode=True)
    assert not report.faults
    assert (report.classes["cat"].small, report.classes["cat"].pixels) == (1, 100)
    assert (report.classes["sky"].medium, report.classes["sky"].objects, report.classes["sky"].pixels) == (1, 1, 1200)
    assert report.counts == {
        "images": 2, "crowds": 1, "images without objects": 1, "pairs of masks that overlap": 1,
    }  # fmt: skip


def test_classes_without_objects_and_of_crowds_are_remarked(images: Path) -> None:
    content = copy.deepcopy(INSTANCES)
    content["categories"] += [{"id": 3, "name": "emu"}, {"id": 4, "name": "fog"}]
    content["annotations"][1].update(category_id=4, iscrowd=1)
    (images / "i.json").write_text(json.dumps(content))
    unseen, crowds = check_instances(str(images / "i.json"), str(images)).remarks()
    assert unseen == "no image shows sky, emu."  # the fog is shown, as a crowd
    assert crowds.startswith("a large share of these classes is marked as crowds (iscrowd 1): cat (50%), fog (100%).")
    content["categories"] = [{"id": number, "name": f"c{number}"} for number in range(1, 15)]
    (images / "i.json").write_text(json.dumps(content))
    unseen, _ = check_instances(str(images / "i.json"), str(images)).remarks()
    assert unseen == "no image shows c2, c3, c5, c6, c7, c8, c9, c10, c11, c12 and 2 more."
    (images / "i.json").write_text("{")
    assert not check_instances(str(images / "i.json"), str(images)).remarks()


def test_remarks_on_segments_labels_and_videos(images: Path) -> None:
    panoptic(images, lambda content: content["annotations"][0]["segments_info"].pop())
    assert check_panoptic(str(images / "p.json"), str(images), str(images), NAMES).remarks() == ["no image shows cat."]
    (images / "labels").mkdir()
    for name in "ab":
        Image.fromarray(np.full((20, 120), 1, np.uint8)).save(images / "labels" / f"{name}.png")
        (images / "images").mkdir(exist_ok=True)
        (images / f"{name}.png").rename(images / "images" / f"{name}.png")
    report = check_labels(str(images / "images"), str(images / "labels"), ["road", "sky"], 255)
    assert report.remarks() == ["no image shows road."]
    file, frames = video_data.write_youtube_vis(images / "films")
    content = json.loads(Path(file).read_text())
    content["categories"].append({"id": 9, "name": "tram"})
    Path(file).write_text(json.dumps(content))
    assert check_annotations(file, frames).remarks() == ["no frame shows tram."]
    del content["annotations"]  # as those for a competition's evaluation
    Path(file).write_text(json.dumps(content))
    assert not check_annotations(file, frames).remarks()


def annotation(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["annotations"][0].update(changes)


def image(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["images"][1].update(changes)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (annotation(id=2), "i.json: annotation 2: the id occurs twice"),
        (annotation(image_id=99), "i.json: annotation 1: its image 99 is not listed"),
        (annotation(category_id=5), "i.json: annotation 1: category 5 is not one"),
        (annotation(category_id=[5]), "i.json: annotation 1: the key 'category_id' is [5], not an id"),
        (annotation(segmentation="abc"), "i.json: annotation 1: found no mask (segmentation is 'abc')"),
        (annotation(segmentation=[{"x": 1, "y": 2}]), "i.json: annotation 1: a polygon has to be a flat list"),
        (annotation(segmentation=[["1"] * 6]), "i.json: annotation 1: a polygon has to be a flat list"),
        (annotation(segmentation=[1, 1, 9, 1, 9, 9]), "i.json: annotation 1: a polygon has to be a flat list"),
        (annotation(segmentation=[[1, 1, 2, 2]]), "i.json: annotation 1: its mask is empty"),
        (annotation(segmentation=[[1, 1, 2, 2], *SQUARE]), "i.json: annotation 1: a polygon of fewer than three"),
        (annotation(segmentation=[[1, 1, 2, 2, 500, 3]]), "i.json: annotation 1: a polygon leaves the image"),
        (annotation(segmentation=[[400, 1, 500, 1, 500, 3]]), "i.json: annotation 1: its mask is empty"),
        (annotation(segmentation={"size": 20, "counts": [2400]}), "i.json: annotation 1: the mask's size"),
        (annotation(segmentation={"size": [20, 120], "counts": [0.5]}), "i.json: annotation 1: the mask's counts"),
        (annotation(iscrowd="0"), "i.json: annotation 1: iscrowd is '0'; it has to be 0 or 1"),
        (annotation(iscrowd=7), "i.json: annotation 1: iscrowd is 7; it has to be 0 or 1"),
        (annotation(segmentation=[[1, 1, 1, 1, 1, 1]]), "i.json: annotation 1: its mask is empty"),
        (annotation(segmentation={"size": [20, 120], "counts": [2400]}), "i.json: annotation 1: its mask is empty"),
        (
            annotation(segmentation={"size": [20, 120], "counts": [5, 5]}),
            "i.json: annotation 1: the mask's run lengths",
        ),
        (annotation(segmentation={"size": [9, 9], "counts": [81]}), "i.json: annotation 1: the mask's size"),
        (lambda c: c["annotations"][2].update(iscrowd=0), "i.json: image 7: annotations 1 and 3 have the same mask"),
        (lambda c: c["annotations"].append(3), "i.json: 'annotations' has to be a list of objects; number 3 is a int"),
        (lambda c: c.pop("annotations"), "i.json: 'annotations' has to be a list"),
        (lambda c: c["categories"].append({"id": 1, "name": "dog"}), "i.json: category 1: the id occurs twice"),
        (image(file_name="gone.png"), "gone.png: the image is missing"),
        (image(file_name="../b.png"), "i.json: image 8: the file name '../b.png' leads out"),
        (image(file_name="i.json"), "i.json: not an image of the formats"),
        (image(height=21), "b.png: image 8: the image's size (height, width) is (20, 120); i.json says (21, 120)"),
        (image(height=0), "i.json: image 8: height and width are 0 and 120"),
        (image(id=7), "i.json: image 7: the id occurs twice"),
    ],
)
def test_faults_of_instances(check: Callable, change: Callable, expected: str) -> None:
    found = check(change)
    assert any(text.startswith(expected) for text in found), found
    assert len(found) <= 2  # a second one follows from the first where the size is wrong


def test_all_faults_are_listed_at_once(check: Callable) -> None:
    def change(content: dict[str, Any]) -> None:
        for entry in content["annotations"]:
            entry["category_id"] = 5

    assert len(check(change)) == 3


@pytest.mark.parametrize(("text", "says"), [("{", "not a json file"), (None, "the file is missing")])
def test_no_annotation_file(tmp_path: Path, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / "i.json").write_text(text)
    ((file, found, _),) = check_instances(str(tmp_path / "i.json"), str(tmp_path), NAMES).faults
    assert file.endswith("i.json") and found.startswith(says)


def panoptic(images: Path, change: Callable[[dict[str, Any]], Any]) -> list[str]:
    ids = np.zeros((20, 120, 3), np.uint8)
    ids[:10, :, 1] = 1  # 256
    ids[10:, 60:, 0] = 9
    Image.fromarray(ids).save(images / "ids.png")
    Image.fromarray(ids[:5]).save(images / "short.png")
    segments = [
        {"id": 256, "category_id": 2, "area": 1200, "iscrowd": 0},
        {"id": 9, "category_id": 1, "area": 600, "iscrowd": 0},
    ]
    content = {
        "images": INSTANCES["images"][:1],
        "annotations": [{"image_id": 7, "file_name": "ids.png", "segments_info": segments}],
    }
    content = copy.deepcopy(content)
    change(content)
    (images / "p.json").write_text(json.dumps(content))
    report = check_panoptic(str(images / "p.json"), str(images), str(images), NAMES)
    if not report.faults:
        assert report.counts["pixels of no segment"] == 600
        assert report.classes["cat"].pixels == 600 and report.classes["sky"].medium == 1
    return [f"{file}: {text}".replace(f"{images}/", "") for file, text, _ in report.faults]


def segment(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["annotations"][0]["segments_info"][1].update(changes)


def entry(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["annotations"][0].update(changes)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: None, []),
        (segment(area=5), ["ids.png: annotation of image 7, segment 9: its area is 600 pixels, not 5"]),
        (
            segment(category_id=3),
            [
                "p.json: annotation of image 7, segment 9: category 3 is not one of the data set's. Correct the file, "
                "or register it with its own categories"
            ],
        ),
        (
            segment(id=10),
            [
                "ids.png: annotation of image 7, segment 10: it is listed, but no pixel has its id",
                "ids.png: annotation of image 7: 600 pixels have the id 9, which is not listed",
            ],
        ),
        (lambda c: c["annotations"].clear(), ["p.json: image 7 has no annotation"]),
        (
            lambda c: c["annotations"].append(c["annotations"][0]),
            ["p.json: image 7 has two annotations; panoptic images have one"],
        ),
        (entry(file_name="gone.png"), ["gone.png: annotation of image 7: the png is missing"]),
        (
            entry(image_id=70),
            ["p.json: annotation of image 70: 'images' does not list it", "p.json: image 7 has no annotation"],
        ),
    ],
)
def test_faults_of_panoptic_sets(images: Path, change: Callable, expected: list[str]) -> None:
    assert panoptic(images, change) == expected


def test_panoptic_ids_twice_and_sizes(images: Path) -> None:
    twice = panoptic(images, lambda c: c["annotations"][0]["segments_info"].append({"id": 9, "category_id": 1}))
    assert "p.json: annotation of image 7, segment 9 is listed twice; segment ids have to be unique" in twice
    assert "short.png: its size (height, width) is (5, 120), but the image's is (20, 120)" in panoptic(
        images, entry(file_name="short.png")
    )


def test_faults_of_labels(tmp_path: Path) -> None:
    def save(array: Any, name: str) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.array(array, np.uint8)).save(tmp_path / name)

    for name in ("sound", "range", "size", "ignored", "colour", "alone"):
        save(np.zeros((1, 3, 3)), f"images/{name}.png")
    save([[0, 1, 255]], "labels/sound.png")
    save([[0, 2, 2]], "labels/range.png")
    save([[0, 1]], "labels/size.png")
    save([[255, 255, 255]], "labels/ignored.png")
    save(np.zeros((1, 3, 3)), "labels/colour.png")
    save([[0, 1, 1]], "labels/other.png")
    report = check_labels(str(tmp_path / "images"), str(tmp_path / "labels"), ["road", "sky"], 255)
    found = {(Path(file).stem, text.split(" ")[0]) for file, text, _ in report.faults}
    assert found == {
        ("range", "2"), ("size", "the"), ("ignored", "every"), ("colour", "found"),
        ("alone", "the"), ("other", "the"),
    }  # fmt: skip
    assert (report.classes["sky"].objects, report.classes["sky"].pixels) == (2, 2)
    assert report.counts["ignored pixels"] == 4


def test_names_that_cannot_be_checked() -> None:
    with pytest.raises(ValueError, match="No data set 'nothing'"):
        check_dataset("nothing")
    with pytest.raises(ValueError, match="cannot be checked here"):
        check_dataset("cityscapes_fine_sem_seg_val")


@pytest.fixture
def command() -> Callable[..., int]:
    spec = importlib.util.spec_from_file_location("check_dataset", ROOT / "tools/check_dataset.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda *arguments: module.main([str(argument) for argument in arguments])


def test_command(images: Path, command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    (images / "i.json").write_text(json.dumps(INSTANCES))
    assert command("--coco", images / "i.json", images) == 0
    said = capsys.readouterr().out
    assert "no faults" in said and "2 images" in said and "cat" in said
    (images / "b.png").unlink()
    (images / "a.png").unlink()
    assert command("--coco", images / "i.json", images, "--show", "1") == 1
    said = capsys.readouterr().out
    assert "a.png: the image is missing" in said and "and 1 more" in said and "2 faults" in said
    assert command("nothing") == 2


def test_the_command_obeys_the_limit_on_pixels(
    images: Path, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """The next call without the option has the default again."""
    (images / "i.json").write_text(json.dumps(INSTANCES))
    given = ("--coco", images / "i.json", images)
    assert command(*given, "--max-pixels", 20 * 120 - 1) == 1
    assert "a.png: 120 x 20 pixels are more than the limit of 2,399" in capsys.readouterr().out
    assert command(*given, "--max-pixels", 20 * 120) == command(*given) == 0
    assert command(*given, "--max-pixels", 0) == 2
    assert "MAX_PIXELS is 0" in capsys.readouterr().err
