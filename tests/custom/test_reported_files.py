"""Files that public bug reports are about: read as they are meant, or refused with what is wrong in them."""

from __future__ import annotations

import copy
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from mask2former.data.images.read import panoptic_png
from mask2former.data.mapper.annotations import instance_objects

ROOT = Path(__file__).parents[2]
SIDE, NUMBER = 64, 6
SQUARE = [16, 16, 40, 16, 40, 40, 16, 40]  # 576 pixels
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(autouse=True)
def _forget() -> Any:
    yield
    for name in [name for name in DatasetCatalog.list() if name.startswith("custom_")]:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def dry_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """(kinds of paths) -> status and all that train_custom.py's dry run says."""
    spec = importlib.util.spec_from_file_location("train_custom", ROOT / "tools/train_custom.py")
    assert spec and spec.loader
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def run(*paths: Path, val: tuple[Path, ...] = ()) -> tuple[int, str]:
        more = ["--val", *map(str, val)] if val else []
        arguments = ["--train", *map(str, paths), *more, "--model", "small", "--from-scratch", "--dry-run"]
        status = tool.main([*arguments, "--output", str(tmp_path / "out"), "MODEL.DEVICE", "cpu"])
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


def instances() -> dict[str, Any]:
    """One square in each of the images."""
    return {
        "images": [{"id": n, "file_name": f"pic{n}.png", "height": SIDE, "width": SIDE} for n in range(1, NUMBER + 1)],
        "categories": [{"id": 1, "name": "square", "supercategory": "shape"}],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "iscrowd": 0, "area": 576, "segmentation": [SQUARE]}
            for n in range(1, NUMBER + 1)
        ],
    }


def write(folder: Path, content: Any, mark: bytes = b"", images: str = "images") -> tuple[Path, Path]:
    (folder / images).mkdir(parents=True)
    for n in range(1, NUMBER + 1):
        Image.fromarray(np.full((SIDE, SIDE, 3), 20 * n, np.uint8)).save(folder / images / f"pic{n}.png")
    (folder / "a.json").write_bytes(mark + json.dumps(content).encode())
    return folder / "a.json", folder / "images"


def every(**changes: Any) -> Change:
    return lambda content: [annotation.update(changes) for annotation in content["annotations"]]


def counted(said: str) -> int | None:
    """How many objects the table before training counts."""
    return next((int(line.split()[2]) for line in said.splitlines() if line.startswith("square ")), None)


RUNS = {"size": [SIDE, SIDE], "counts": [0, 100, SIDE * SIDE - 100]}


def floats(content: dict[str, Any]) -> None:
    for image in content["images"]:
        image.update(id=float(image["id"]), height=float(SIDE), width=float(SIDE))
    for entry in (*content["annotations"], *content["categories"]):
        entry.update({key: float(entry[key]) for key in ("id", "image_id", "category_id") if key in entry})


def roboflow(content: dict[str, Any]) -> None:
    """The root class, once as it usually is and once with the name of the class below it."""
    content["categories"] = [
        {"id": 0, "name": "square", "supercategory": "none"}, {"id": 1, "name": "square", "supercategory": "square"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(every(iscrowd=None), id="crowds null"),
        pytest.param(every(iscrowd=False), id="crowds false"),
        pytest.param(every(segmentation=[SQUARE, [1, 1, 2, 2]]), id="one small part"),
        pytest.param(every(segmentation=[[16, 16, 900, 16, 900, 40, 16, 40]]), id="a point outside"),
        pytest.param(every(segmentation=[RUNS]), id="list of run lengths"),
        pytest.param(every(segmentation={**RUNS, "size": [64.0, 64.0]}), id="size in floats"),
        pytest.param(floats, id="ids in floats"),
        pytest.param(roboflow, id="roboflow's root class"),
    ],
)
def test_what_is_read(tmp_path: Path, dry_run: Callable[..., tuple[int, str]], change: Change) -> None:
    content = instances()
    change(content)
    status, said = dry_run(*(paths := write(tmp_path / "data", content)), val=paths)
    assert status == 0 and counted(said) == NUMBER and "1 class." in said
    assert "6 of 6 validation images are also training images" in said
    (record, *_) = DatasetCatalog.get("custom_out_train")
    assert instance_objects(record, (SIDE, SIDE), 1).classes.tolist() == [0]
    assert isinstance(record["image_id"], int) and isinstance(record["height"], int)


def test_a_byte_order_mark_is_skipped(tmp_path: Path, dry_run: Callable[..., tuple[int, str]]) -> None:
    status, said = dry_run(*write(tmp_path / "data", instances(), mark=b"\xef\xbb\xbf"))
    assert status == 0 and counted(said) == NUMBER


@pytest.mark.parametrize("flag", ["0", "false", 7])
def test_other_crowd_flags_are_faults(tmp_path: Path, dry_run: Callable[..., tuple[int, str]], flag: Any) -> None:
    content = instances()
    content["annotations"][3]["iscrowd"] = flag
    status, said = dry_run(*write(tmp_path / "data", content))
    assert status == 2 and f"a.json: annotation 4: iscrowd is {flag!r}; it has to be 0 or 1" in said


def test_crowds_are_shown(tmp_path: Path, dry_run: Callable[..., tuple[int, str]]) -> None:
    content = instances()
    every(iscrowd=1, segmentation=RUNS)(content)
    status, said = dry_run(*write(tmp_path / "all", content))
    assert status == 2 and "All its 6 annotations are crowds" in said
    content["annotations"][0]["iscrowd"] = 0
    status, said = dry_run(*write(tmp_path / "most", content))
    assert status == 0 and "marked as crowds (iscrowd 1): square (83%)" in said
    assert next(line for line in said.splitlines() if line.startswith("square ")).split()[-1] == "83%"


def test_boxes_alone_are_left_out_and_counted(tmp_path: Path, dry_run: Callable[..., tuple[int, str]]) -> None:
    content = instances()
    for annotation in content["annotations"][:2]:
        del annotation["segmentation"]
    status, said = dry_run(*(paths := write(tmp_path / "data", content)), val=paths)
    assert status == 0 and counted(said) == NUMBER - 2
    assert "2 annotations without a mask (boxes alone) are left out" in said
    every(segmentation=[])(content)
    status, said = dry_run(*write(tmp_path / "none", content))
    assert status == 2 and "none of its 6 annotations has a mask" in said


def test_many_equal_faults_are_one_line_with_a_guess(tmp_path: Path, dry_run: Callable[..., tuple[int, str]]) -> None:
    file, images = write(tmp_path / "data", instances(), images="images/default")
    first = sorted((images / "default").iterdir())[0]
    first.rename(images / first.name)
    status, said = dry_run(file, images)
    (line,) = (line for line in said.splitlines() if "missing" in line)
    assert status == 2 and "(and 4 more of this kind)" in line
    assert line.endswith(f"all 5 are found in {images / 'default'}") and "5 faults would stop" in said


def test_images_that_all_lie_elsewhere_are_found(tmp_path: Path, dry_run: Callable[..., tuple[int, str]]) -> None:
    file, images = write(tmp_path / "data", instances(), images="images/default")
    status, said = dry_run(file, images)
    assert status == 0 and f"all 6 were found in {images / 'default'}" in said


def panoptic(
    folder: Path, broken: Callable[[Path, np.ndarray], Any], change: Change = lambda content: None
) -> list[Path]:
    content = instances()
    content["categories"] = [{"id": 1, "name": "square", "isthing": 1}, {"id": 2, "name": "ground", "isthing": 0}]
    segments = [{"id": 300, "category_id": 1, "iscrowd": 0}, {"id": 7, "category_id": 2, "iscrowd": 0}]
    content["annotations"] = [
        {"image_id": n, "file_name": f"ids{n}.png", "segments_info": copy.deepcopy(segments)}
        for n in range(1, NUMBER + 1)
    ]
    change(content)
    file, images = write(folder, content)
    (folder / "pngs").mkdir()
    ids = np.full((SIDE, SIDE), 7)
    ids[16:40, 16:40] = 300
    for n in range(1, NUMBER + 1):
        Image.fromarray(panoptic_png(ids)).save(folder / "pngs" / f"ids{n}.png")
    broken(folder / "pngs" / "ids3.png", ids)
    return [file, images, folder / "pngs"]


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (lambda png, ids: Image.fromarray(panoptic_png(0 * ids)).save(png), "none of the image's 2 segments is in it"),
        (lambda png, ids: Image.fromarray(ids.astype(np.uint16)).save(png), "more than 8 bits"),
        (lambda png, ids: png.write_bytes(png.read_bytes()[:90]), "it cannot be read"),
        (lambda png, ids: png.unlink(), "the png is missing"),
    ],
)
def test_panoptic_pngs_that_training_would_die_of(
    tmp_path: Path, dry_run: Callable[..., tuple[int, str]], broken: Any, says: str
) -> None:
    status, said = dry_run(*panoptic(tmp_path / "data", broken))
    assert status == 2 and "ids3.png: annotation of image 3: " in said and says in said


@pytest.mark.parametrize("number", [0, -1, 2**24, "7", 7.5, None])
def test_segment_ids_that_training_would_die_of(
    tmp_path: Path, dry_run: Callable[..., tuple[int, str]], number: Any
) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"][2]["segments_info"][1]["id"] = number

    status, said = dry_run(*panoptic(tmp_path / "data", lambda png, ids: None, change))
    assert status == 2 and f"annotation of image 3, segment {number!r}: " in said


@pytest.mark.parametrize("kind", ["half.jpg", "half.png", "cut.webp", "deep.png"])
def test_images_that_training_would_die_of(tmp_path: Path, dry_run: Callable[..., tuple[int, str]], kind: str) -> None:
    content = instances()
    content["images"][3]["file_name"] = kind
    file, images = write(tmp_path / "data", content)
    if kind == "deep.png":
        Image.fromarray(np.full((SIDE, SIDE), 9000, np.uint16)).save(images / kind)
    else:
        noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(noise).save(images / kind)
        whole = (images / kind).read_bytes()
        (images / kind).write_bytes(whole[: len(whole) // 2])
    status, said = dry_run(file, images)
    assert status == 2 and f"{kind}: " in said and "1 fault would stop" in said
