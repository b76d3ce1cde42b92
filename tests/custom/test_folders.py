"""Folders of other programs: recognised, converted, and counted rightly."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import pytest
import video_data
from detectron2.data import DatasetCatalog, MetadataCatalog
from layouts import BOXES, HEIGHT, NAMES, WIDTH, coco, draw, save
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

from mask2former.custom import CustomDataset, DataError, build_dataset, open_data
from mask2former.custom.folders import check_folder
from mask2former.custom.folders.label_colours import voc_colour

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    for name in [name for name in DatasetCatalog.list() if name.startswith("custom_")]:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def build(root: Path, out: Path) -> CustomDataset:
    opened = open_data([str(root)], None, out)
    ignore = 255 if opened.ignore_label is None else opened.ignore_label
    data = build_dataset(opened.train, opened.val, out, "folder", opened.class_names, ignore)
    data.notes[:0] = opened.notes
    return data


def counts(data: CustomDataset) -> dict[str, int]:
    return {name: tally.objects for name, tally in data.report.classes.items()}


# layout -> images for validation (None: held out), classes beside cat and dog, words of the note
OBJECTS: dict[Callable[[Path], None], tuple[int | None, set[str], str]] = {
    layouts.roboflow: (1, {"emu"}, "train/_annotations.coco.json"),
    layouts.cvat: (None, {"emu"}, "all 3 were found in {root}/images/default"),
    layouts.among_images: (None, {"emu"}, "labels.json"),
    layouts.coco_own: (1, {"emu"}, "annotations/instances_train2017.json"),
    layouts.labelme: (None, set(), "labelme's files, 3"),
    layouts.yolo: (1, {"emu"}, "YOLO's files, by data.yaml"),
    layouts.cvat_masks: (None, {"emu"}, "objects of SegmentationObject"),
}


def as_from_a_mac(root: Path) -> None:
    """Add what an archive of macOS has beside each file, and that no program of other systems knows."""
    for file in [*root.rglob("*")]:
        if file.is_file():
            file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")


@pytest.mark.parametrize("mac", [False, True])
@pytest.mark.parametrize("layout", OBJECTS, ids=lambda layout: layout.__name__)
def test_objects(layout: Callable[[Path], None], mac: bool, tmp_path: Path) -> None:
    """Three images, four objects and the classes; each mask covers its rectangle."""
    root = tmp_path / "data"
    layout(root)
    if mac:
        as_from_a_mac(root)
    val, others, words = OBJECTS[layout]
    data = build(root, tmp_path / "out")
    assert data.kind == "instance"
    assert data.report.counts["images"] == 3
    assert data.val.num_images == (val or 1) and data.train.num_images == (3 if val else 2)
    assert {"cat": 3, "dog": 1} | dict.fromkeys(others, 0) == {
        name: number for name, number in counts(data).items() if name != "pets"
    }
    assert any(words.format(root=root) in note for note in data.notes), data.notes
    api = COCO(str(data.train.source.annotations))
    for image in api.loadImgs(api.getImgIds()):
        expected = [rectangle(box) for box in BOXES[Path(image["file_name"]).stem]]
        found = [api.annToMask(entry).astype(bool) for entry in api.loadAnns(api.getAnnIds(image["id"]))]
        assert len(found) == len(expected)
        assert all(any(np.array_equal(one, other) for other in found) for one in expected)


def rectangle(box: tuple[int, ...]) -> np.ndarray:
    _, x, y, w, h = box
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y : y + h, x : x + w] = True
    return mask


def test_pascal_voc(tmp_path: Path) -> None:
    layouts.voc(tmp_path / "VOCdevkit")
    as_from_a_mac(tmp_path / "VOCdevkit")
    data = build(tmp_path / "VOCdevkit", tmp_path / "out")
    found = {name: number for name, number in counts(data).items() if number}
    assert found == {"cat": 3, "car": 1} and len(data.categories) == 20
    assert (data.train.num_images, data.val.num_images) == (3, 1)
    assert any("1 images of" in note and "left out" in note for note in data.notes)


@pytest.mark.parametrize(("folder", "file"), [("test", "val.json"), ("train_of_thought", "x.json"), ("d", "test.json")])
def test_one_file_is_for_training_whatever_it_is_called(folder: str, file: str, tmp_path: Path) -> None:
    draw(tmp_path / folder, *"abc")
    save(coco(), tmp_path / folder / file)
    for place in (tmp_path / folder, tmp_path):
        opened = open_data([str(place)], None, tmp_path / "out")
        assert opened.train.annotations == str(tmp_path / folder / file) and opened.val is None


def test_palette_of_pascal_voc() -> None:
    listed = np.reshape(layouts.voc_palette(), (-1, 3)).tolist()
    found = [voc_colour(number) for number in range(len(listed))]
    assert [[colour >> 16, colour >> 8 & 255, colour & 255] for colour in found] == listed


@pytest.mark.parametrize("explicit", [False, True])
def test_colour_masks(tmp_path: Path, explicit: bool) -> None:
    root = tmp_path / "data"
    layouts.colour_masks(root)
    as_from_a_mac(root)
    if explicit:
        opened = open_data([str(root / "images"), str(root / "masks")], None, tmp_path)
    else:
        opened = open_data([str(root)], None, tmp_path)
    assert opened.class_names == ("background", *NAMES) and opened.ignore_label == 255
    assert any("1 images of" in note for note in opened.notes)
    for name, boxes in BOXES.items():
        expected = np.zeros((HEIGHT, WIDTH), np.uint8)
        for box in boxes:
            expected[rectangle(box)] = box[0] + 1
        labels = np.array(Image.open(Path(str(opened.train.pngs)) / f"{name}.png"))
        assert np.array_equal(labels, expected)
    if not explicit:
        data = build(root, tmp_path / "out")
        assert data.kind == "semantic" and data.report.counts["images"] == 3
        assert counts(data) == {"background": 3, "cat": 2, "dog": 1, "emu": 0}
        assert any("shows emu" in note for note in data.notes)


def test_class_numbers_in_one_folder(tmp_path: Path) -> None:
    for split in ("train", "val"):
        draw(tmp_path / "images" / split, "a", "b")
        (tmp_path / "labels" / split).mkdir(parents=True)
        for name in "ab":
            Image.fromarray(np.eye(HEIGHT, WIDTH, dtype=np.uint8)).save(tmp_path / "labels" / split / f"{name}.png")
    as_from_a_mac(tmp_path)
    data = build(tmp_path, tmp_path / "out")
    assert data.kind == "semantic" and data.val.num_images == 2 and counts(data) == {"class 0": 2, "class 1": 2}


def test_the_check_counts_each_part(tmp_path: Path) -> None:
    layouts.yolo(tmp_path)
    notes, reports = check_folder(str(tmp_path))
    assert notes and list(reports) == ["instance data, train", "instance data, val"]
    assert [report.counts["images"] for report in reports.values()] == [3, 1]
    assert not any(report.stopping for report in reports.values())
    assert {path.name for path in tmp_path.iterdir()} == {"train", "valid", "data.yaml"}, "nothing is left behind"


def test_commands_take_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layouts.cvat(tmp_path / "data")
    assert command("check_dataset")([str(tmp_path / "data")]) == 0
    out = capsys.readouterr().out
    assert "all 3 were found in" in out and "cat" in out and "no faults" in out
    assert "note: no image shows emu." in out
    output = str(tmp_path / "out")
    words = ["--data", str(tmp_path / "data"), "--model", "small_r18", "--dry-run", "--output", output]
    assert command("train_custom")(words) == 0
    out = capsys.readouterr().out
    assert "2 images for training, 1 for validation, 3 classes" in out and "all 3 were found in" in out
    assert re.search(r"^warning: .*: no image shows emu\.$", out, flags=re.MULTILINE)
    assert not Path(output).exists()
    assert command("train_custom")(["--data", str(tmp_path), "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert "found data" in error and "Roboflow" in error and "objects (COCO)" in error


def command(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


# Told, though not refused.


def test_training_images_that_are_validation_images(tmp_path: Path) -> None:
    layouts.yolo(tmp_path)
    save(f"train: train/images\nval: train/images\nnames: {list(NAMES)}\n", tmp_path / "data.yaml")
    for notes in (build(tmp_path, tmp_path / "o").notes, check_folder(str(tmp_path))[0]):
        assert any("3 of 3 validation images are also training" in note for note in notes)


def test_faults_of_a_folder_are_listed_where_the_images_cannot_be_compared(tmp_path: Path) -> None:
    layouts.coco_own(tmp_path)
    for file in tmp_path.rglob("*.json"):
        content = json.loads(file.read_text())
        content["images"] += content["images"][:1]
        save(content, file)
    notes, reports = check_folder(str(tmp_path))
    assert len(reports) == 2 and not any("also training" in note for note in notes)
    assert all("twice" in " ".join(report.lines(report.faults)) for report in reports.values())


def test_a_class_that_is_held_out_whole(tmp_path: Path) -> None:
    """One of seven images alone shows the emu: the warning is there if, and only if, it is chosen for validation."""
    names = "abcdefg"
    seen = set()
    for place, shows in enumerate(names):
        folder = tmp_path / shows
        draw(folder, *names)
        content = coco("a" * len(names))  # objects of a in all of them
        for image, name in zip(content["images"], names, strict=True):
            image["file_name"] = f"{name}.png"
        next(one for one in content["annotations"] if one["image_id"] == place)["category_id"] = 3
        save(content, folder / "labels.json")
        data = build(folder, tmp_path / "out")
        told = any("what shows emu is held out" in note for note in data.notes)
        assert told == (data.val.only == {place})
        seen.add(told)
    assert seen == {True, False}


def test_a_class_of_videos_that_is_held_out_whole(tmp_path: Path) -> None:
    """Pedestrians are in the first of two videos alone."""
    opened = open_data([video_data.write_frames(tmp_path), video_data.write_mots_png(tmp_path)], None, tmp_path / "o")
    data = build_dataset(opened.train, None, tmp_path / "o", "folder")
    (held_out,) = data.val.only or ()
    (first,) = (id_ for id_, (frames, _) in data.report.of_videos.items() if frames == 4)
    told = any("what shows pedestrian is held out" in note for note in data.notes)
    assert told == (held_out == first)


def test_numbers_that_no_image_shows_are_no_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(tmp_path / "images", "a", "b")
    (tmp_path / "labels").mkdir()
    for name in "ab":
        Image.fromarray(5 * np.eye(HEIGHT, WIDTH, dtype=np.uint8)).save(tmp_path / "labels" / f"{name}.png")
    assert command("check_dataset")([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "class 5" in out and "no image shows" not in out


@pytest.mark.parametrize("split", ["", "train/"])
def test_a_file_with_names_alone_is_of_the_usual_folders(split: str, tmp_path: Path) -> None:
    layouts.yolo(tmp_path / "whole")
    for kind in ("images", "labels"):
        shutil.copytree(tmp_path / "whole" / "train" / kind, tmp_path / "data" / kind / split)
    save(f"names: {list(NAMES)}\nnc: 3\n", tmp_path / "data" / "data.yaml")
    assert counts(build(tmp_path / "data", tmp_path / "out")) == {"cat": 3, "dog": 1, "emu": 0}


def test_what_supervision_writes_and_reads(tmp_path: Path) -> None:
    """The package draws a ring and two rectangles; its reader and ours find the same pixels."""
    supervision = pytest.importorskip("supervision", reason="the optional package supervision is not installed")
    height, width = 60, 80
    masks = np.zeros((3, height, width), bool)
    masks[0, 5:25, 5:35], masks[1, 30:40, 5:15], masks[2, 45:58, 50:78] = True, True, True
    masks[0, 10:20, 12:28] = False
    image = str(tmp_path / "drawn.png")
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(image)
    boxes, numbers = supervision.mask_to_xyxy(masks), np.array([0, 1, 1])
    truth = supervision.Detections(xyxy=boxes, mask=masks, class_id=numbers)
    given = supervision.DetectionDataset(["cat", "dog"], [image], {image: truth})
    data = tmp_path / "data"
    places = (str(data / "images"), str(data / "labels"), str(data / "data.yaml"))
    given.as_yolo(*places)
    ((_, _, theirs),) = supervision.DetectionDataset.from_yolo(*places, force_masks=True)
    source = open_data([str(data)], None, tmp_path / "out").train
    content = json.loads(Path(str(source.annotations)).read_text())
    assert [entry["name"] for entry in content["categories"]] == ["cat", "dog"] and len(content["images"]) == 1
    assert len(content["annotations"]) == len(theirs) == 3
    for entry, mask, right in zip(content["annotations"], theirs.mask, masks, strict=True):
        drawn = rle.decode(rle.merge(rle.frPyObjects(entry["segmentation"], height, width))).astype(bool)
        # A polygon's edge may be half a pixel outside or inside.
        for other in (mask, right):
            assert (drawn & other).sum() / (drawn | other).sum() > 0.75
        assert not drawn[14:16, 18:22].any()


def test_boxes_alone(tmp_path: Path) -> None:
    layouts.yolo(tmp_path)
    label = tmp_path / "train" / "labels" / "b.txt"
    save(label.read_text() + "1 0.5 0.5 0.25 0.5\n", label)
    data = build(tmp_path, tmp_path / "out")
    assert counts(data) == {"cat": 3, "dog": 1, "emu": 0}
    assert any("1 annotations without a mask (boxes alone) are left out" in note for note in data.notes)
    entries = json.loads(Path(str(data.train.source.annotations)).read_text())["annotations"]
    assert entries[-1]["bbox"] == pytest.approx([15, 7.5, 10, 15])
    for file in (tmp_path / "train" / "labels").iterdir():
        save("0 0.5 0.5 0.25 0.5\n", file)
    with pytest.raises(DataError, match=r"boxes alone|no mask"):
        build(tmp_path, tmp_path / "out")


def test_shapes_of_labelme(tmp_path: Path) -> None:
    """A circle, two parts of one object, a rectangle (a box alone) and a point."""
    draw(tmp_path, "a", "b")
    shapes = [
        {"label": "disc", "shape_type": "circle", "points": [[20, 15], [28, 15]]},
        {"label": "cat", "shape_type": "polygon", "points": [[0, 0], [4, 0], [4, 4], [0, 4]], "group_id": 7},
        {"label": "cat", "shape_type": "polygon", "points": [[8, 0], [12, 0], [12, 4], [8, 4]], "group_id": 7},
        {"label": "cat", "shape_type": "rectangle", "points": [[30, 20], [20, 10]]},
        {"label": "cat", "shape_type": "point", "points": [[1, 1]]},
    ]
    save({"shapes": shapes, "imagePath": "a.png"}, tmp_path / "a.json")
    save({"shapes": [], "imagePath": "b.png"}, tmp_path / "b.json")
    data = build(tmp_path, tmp_path / "out")
    assert counts(data) == {"cat": 1, "disc": 1}
    assert any("1 of shape 'point' are left out" in note for note in data.notes)
    assert any("1 annotations without a mask" in note for note in data.notes)
    api = COCO(str(data.train.source.annotations))
    areas = sorted(api.annToMask(entry).sum() for entry in api.anns.values() if "segmentation" in entry)
    assert areas[0] == 32 and areas[1] == pytest.approx(np.pi * 64, rel=0.06)


# Refused.


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.1 0.1 0.5 0.1", None),  # a box
        ("0 0.1 0.1 0.5", "3 numbers behind the class"),
        ("3 0.1 0.1 0.5 0.1 0.5 0.5", "class 3, but data.yaml names 3, from 0 to 2"),
        ("-1 0.1 0.1 0.5 0.1 0.5 0.5", "class -1"),
        ("0 12 14 20 14 20 30", "shares of the image's sides"),
        ("0 0.1 nan 0.5 0.1 0.5 0.5", "between 0 and 1"),
        ("cat 0.1 0.1 0.5 0.1 0.5 0.5", "could not convert.*a line is a class and numbers"),
    ],
)
def test_lines_of_yolo(line: str, message: str | None, tmp_path: Path) -> None:
    layouts.yolo(tmp_path)
    save(f"\n{line}\n", tmp_path / "train" / "labels" / "b.txt")
    if message is None:
        open_data([str(tmp_path)], None, tmp_path / "out")
        return
    with pytest.raises(DataError, match=rf"b\.txt, line 2: .*{message}"):
        open_data([str(tmp_path)], None, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: train/images\nnames: [a, a]\n", "a name twice"),
        ("train: train/images\nnames: {0: a, 2: b}\n", "the classes 0, 1, 2"),
        ("train: train/images\n", "'names' is None"),
        ("train: ../../other/images\nnames: [a, b, c]\n", "is not in"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b, *b]\n", "repeats parts of itself"),
        ("names: [" * 3000, "not a yaml file"),
        ("train: [", "not a yaml file"),
        ("- a\n", "found a list"),
        ("x" * (1 << 20) + "y", "more than such a file has"),
        ("names: [a, b, c]\nval: valid/images\n", "none for training"),
    ],
)
def test_descriptions_of_yolo(text: str, message: str, tmp_path: Path) -> None:
    layouts.yolo(tmp_path / "data")
    draw(tmp_path / "other" / "images", "z")
    save(text, tmp_path / "data" / "data.yaml")
    with pytest.raises(DataError, match=message):
        open_data([str(tmp_path / "data")], None, tmp_path / "out")


def test_no_code_runs(tmp_path: Path) -> None:
    layouts.yolo(tmp_path)
    made = tmp_path / "made"
    save(f"train: train/images\nnames: !!python/object/apply:os.mkdir ['{made}']\n", tmp_path / "data.yaml")
    with pytest.raises(DataError, match=r"class 1, but data\.yaml names 1"):  # the text is a class's name
        open_data([str(tmp_path)], None, tmp_path / "out")
    assert not made.exists()


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png", "..\\secret.png", "images/../../secret.png"])
def test_nothing_outside_of_the_folder_is_read(name: str, tmp_path: Path) -> None:
    draw(tmp_path, "secret")
    draw(tmp_path / "data", *"ab")
    content = coco("ab")
    content["images"][0]["file_name"] = name
    save(content, tmp_path / "data" / "x.json")
    with pytest.raises(DataError, match=r"leads out of|is missing"):
        build(tmp_path / "data", tmp_path / "out")
    (tmp_path / "data" / "x.json").unlink()
    for letter in "ab":
        save(
            {"shapes": [], "imagePath": name, "imageHeight": HEIGHT, "imageWidth": WIDTH},
            tmp_path / f"data/{letter}.json",
        )
    with pytest.raises(DataError, match=r"its image .* is not below"):
        open_data([str(tmp_path / "data")], None, tmp_path / "out")


def test_names_that_may_mean_several_files(tmp_path: Path) -> None:
    draw(tmp_path / "one", "a")
    draw(tmp_path / "two", "a")
    save(coco("a", prefix="elsewhere/"), tmp_path / "x.json")
    with pytest.raises(DataError, match=r"may mean one/a\.png and two/a\.png"):
        open_data([str(tmp_path)], None, tmp_path / "out")
    save(coco("a", prefix="elsewhere/two/"), tmp_path / "x.json")
    opened = open_data([str(tmp_path)], None, tmp_path / "out")
    renamed = json.loads(Path(str(opened.train.annotations)).read_text())
    assert [image["file_name"] for image in renamed["images"]] == ["two/a.png"]


def test_missing_images_are_faults_and_not_guessed(tmp_path: Path) -> None:
    """Where some are in place, those that are not are missing, though another folder has a file of that name."""
    draw(tmp_path / "images", "a", "b")
    draw(tmp_path / "old", "c")
    save(coco(), tmp_path / "x.json")
    with pytest.raises(DataError, match=r"c\.png"):
        build(tmp_path, tmp_path / "out")
    save(coco(suffix=".bmp"), tmp_path / "x.json")
    with pytest.raises(DataError, match=r"none of its 3 images is below .*the first is 'a\.bmp'"):
        build(tmp_path, tmp_path / "out")


def test_several_files(tmp_path: Path) -> None:
    layouts.among_images(tmp_path)
    save(coco(), tmp_path / "other.json")
    with pytest.raises(DataError, match=r"several COCO files for train: .*labels\.json.*Give one"):
        open_data([str(tmp_path)], None, tmp_path / "out")
    opened = open_data([str(tmp_path / "other.json")], None, tmp_path / "out")
    assert opened.train.annotations == str(tmp_path / "other.json") and opened.train.images == str(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"imageHeight": 99}, r"\(height, width\) \(99, 40\), but a\.jpg has \(30, 40\)"),
        ({"shapes": {}}, "'shapes' has to be a list"),
        ({"shapes": [{"label": "", "points": [[1, 1]]}]}, "has the label ''"),
        ({"shapes": [{"label": "cat", "points": [[1, 1, 1]]}]}, "list of pairs of numbers"),
        ({"shapes": [{"label": "cat", "points": [[1, float("inf")]]}]}, "not finite"),
        ({"shapes": [{"label": "cat", "points": [[1, 1]], "shape_type": "star"}]}, "is a 'star', which is not known"),
        ({"shapes": [{"label": "cat", "points": [[1, 1]], "shape_type": "mask", "mask": "?"}]}, "is not base64"),
        ({"shapes": [{"label": "cat", "points": [[1, 1]], "shape_type": "circle"}]}, "a circle has 1 points"),
    ],
)
def test_files_of_labelme(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    layouts.labelme(tmp_path)
    save(json.loads((tmp_path / "a.json").read_text()) | change, tmp_path / "a.json")
    with pytest.raises(DataError, match=rf"a\.json: .*{message}"):
        open_data([str(tmp_path)], None, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat:200,0,0::\ncat:0,200,0::\n", "a line for each class"),
        ("cat:200,0,0::\ndog:200,0,0::\n", "a line for each class"),
        ("cat 200 0 0\n", "line 1: 'cat 200 0 0'; a line is name:r,g,b::"),
        ("cat:300,0,0::\n", "line 1"),
        ("# nothing\n", "a line for each class"),
        ("background:0,0,0::\ncat:200,0,0::\n", r"a\.png: 1 colours, on 16\.67% .*the first is \(0, 200, 0\)"),
    ],
)
def test_label_maps(text: str, message: str, tmp_path: Path) -> None:
    layouts.colour_masks(tmp_path)
    save(text, tmp_path / "labelmap.txt")
    with pytest.raises(DataError, match=message):
        open_data([str(tmp_path)], None, tmp_path / "out")


def test_masks_of_objects_have_to_fit(tmp_path: Path) -> None:
    layouts.cvat_masks(tmp_path)
    mask = tmp_path / "SegmentationObject" / "b.png"
    pixels = np.array(Image.open(mask))
    pixels[0, 0] = 7
    Image.fromarray(pixels).save(mask)
    with pytest.raises(DataError, match=r"object of colour \(7, 7, 7\) has no class in .*b\.png"):
        open_data([str(tmp_path)], None, tmp_path / "out")
    Image.fromarray(pixels[:-1]).save(mask)
    with pytest.raises(DataError, match=r"\(29, 40\), but \(30, 40\)"):
        open_data([str(tmp_path)], None, tmp_path / "out")
    mask.unlink()
    with pytest.raises(DataError, match="there is no mask of this name"):
        open_data([str(tmp_path)], None, tmp_path / "out")
    (tmp_path / "JPEGImages" / "a.jpg").unlink()
    with pytest.raises(DataError, match=r"1 masks have no image in .*the first a\.png"):
        open_data([str(tmp_path)], None, tmp_path / "out")
