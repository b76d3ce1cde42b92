"""Models by their name, pictures of every kind, results in every form."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from PIL import Image
from pycocotools.coco import COCO
from torch._subclasses.fake_tensor import FakeTensorMode

import mask2former
from mask2former import Predictor, zoo
from mask2former.download import DownloadError
from mask2former.engine import ConfigError, load_config
from mask2former.predictor import Result, pictures
from mask2former.predictor.coco import panoptic_png
from mask2former.predictor.pictures import find_pictures, load_picture
from mask2former.tiling import TiledInference

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "quickstart" / "panoptic.yaml"
EVERYTHING = 0.01  # a threshold that random weights pass
HEIGHT, WIDTH = 48, 64


@pytest.fixture(scope="module")
def folder(small_training: Path) -> Path:
    return small_training


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return Predictor(folder, threshold=EVERYTHING)


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def same(one: Result, other: Result) -> bool:
    return np.array_equal(one.panoptic, other.panoptic) and np.array_equal(one.semantic, other.semantic)


# Which model.


def test_a_folder_is_as_good_as_its_configuration_and_weights(
    folder: Path, predictor: Predictor, picture: np.ndarray, small_options: list[str]
) -> None:
    weights = str(folder / "model_final.pth")
    result = predictor(picture)
    assert result.segments, "random weights find something at this threshold"
    for other in (
        Predictor(CONFIG, weights, opts=small_options, threshold=EVERYTHING),
        Predictor(load_config(str(CONFIG), [*small_options, "MODEL.WEIGHTS", weights]), threshold=EVERYTHING),
        Predictor(weights, threshold=EVERYTHING),
    ):
        assert same(other(picture), result)
    assert predictor.tasks == ("panoptic", "instance", "semantic")
    assert predictor.names[8] == "sky"


def test_home_in_paths(
    folder: Path, predictor: Predictor, picture: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell replaces ``~``; a Python program and a quoted word do not."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    shutil.copytree(folder, tmp_path / "mine")
    Image.fromarray(picture).save(tmp_path / "a.png")
    expected = predictor(picture)
    weights = "~/mine/model_final.pth"
    for model in (
        Predictor("~/mine", threshold=EVERYTHING),
        Predictor(Path("~/mine"), threshold=EVERYTHING),
        Predictor(weights, threshold=EVERYTHING),
        Predictor("~/mine/config.yaml", weights, threshold=EVERYTHING),
        Predictor("~/mine", opts=["MODEL.WEIGHTS", weights], threshold=EVERYTHING),
    ):
        assert same(model("~/a.png"), expected)
    assert [result.file_name for result in predictor("~/*.png")] == ["a.png"]
    assert expected.save("~/drawn/a.png") == tmp_path / "drawn" / "a.png"
    assert {file.parent for file in expected.save_masks("~/masks")} == {tmp_path / "masks"}


def test_the_last_checkpoint_is_taken_where_training_did_not_end(folder: Path, tmp_path: Path) -> None:
    for name in ("config.yaml", "metadata.json"):
        shutil.copy(folder / name, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"lacks model_final\.pth, nor last_checkpoint"):
        Predictor(tmp_path)
    shutil.copy(folder / "model_final.pth", tmp_path / "model_0000499.pth")
    (tmp_path / "last_checkpoint").write_text("model_0000499.pth")
    assert Predictor(tmp_path).metadata.name == "quickstart_val_panoptic"
    (tmp_path / "last_checkpoint").write_text("../model_0000499.pth")
    with pytest.raises(ValueError, match="leads out of"):
        Predictor(tmp_path)


def test_classes_come_from_the_file_beside_the_weights(folder: Path, tmp_path: Path, picture: np.ndarray) -> None:
    """Of a data set that is not registered: without the file, the error says what is missing."""
    own = "data_of_a_stranger"
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    text = (folder / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text.replace("quickstart_val_panoptic", own).replace("quickstart_train", own))
    (tmp_path / "metadata.json").unlink()
    try:
        with pytest.raises(ValueError, match=rf"metadata\.json is not there, and .*{own}"):
            Predictor(tmp_path)
        facts = json.loads((folder / "metadata.json").read_text())
        facts["stuff_classes"] = [f"class {number}" for number in range(12)]
        (tmp_path / "metadata.json").write_text(json.dumps({**facts, "name": own}))
        assert Predictor(tmp_path)(picture).names[8] == "class 8"
    finally:
        MetadataCatalog.pop(own, None)


def test_folders_whose_data_sets_have_one_name_are_open_at_once(
    folder: Path, predictor: Predictor, tmp_path: Path, picture: np.ndarray
) -> None:
    """Each with classes and things of its own, as own data in folders of the same name have them."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    facts = json.loads((folder / "metadata.json").read_text())
    facts["stuff_classes"] = [f"class {number}" for number in range(12)]
    facts["thing_dataset_id_to_contiguous_id"] = {"7": 0}
    (tmp_path / "metadata.json").write_text(json.dumps(facts))
    other = Predictor(tmp_path, threshold=EVERYTHING)
    assert other.metadata.name == predictor.metadata.name
    assert (other.names[8], predictor.names[8]) == ("class 8", "sky")
    assert other.model.things == {0} and len(predictor.model.things) == 8
    assert other(picture).segments[0]["name"].startswith("class")
    assert not MetadataCatalog.get(facts["name"]).stuff_classes[0].startswith("class")


def test_a_published_model_by_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own configuration and the weights that the zoo names; the download is not tried here."""
    asked: list[str] = []

    def fetch(url: str) -> str:
        asked.append(url)
        raise DownloadError(f"{url}: no network")

    monkeypatch.setattr(zoo, "fetch", fetch)
    for name in ("coco/panoptic/swin_tiny", "coco/panoptic/swin"):
        with pytest.raises(DownloadError, match="no network"):
            Predictor(name)
    assert asked == 2 * [zoo.models()["coco/panoptic/swin"].weights]
    assert all(model.config_file().is_file() for model in zoo.models().values())


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("coco/panoptik/r50", FileNotFoundError, r"no such model.*coco/panoptic/r50"),
        ("no/such/file.yaml", ConfigError, "no such configuration file"),
        (CONFIG, ValueError, r"MODEL\.WEIGHTS is empty"),
    ],
)
def test_models_that_are_not_there(model: str | Path, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Predictor(model)


def test_weights_of_a_backbone_alone_are_refused(folder: Path, tmp_path: Path) -> None:
    state = torch.load(folder / "model_final.pth")["model"]
    backbone = {name: value for name, value in state.items() if name.startswith("backbone.")}
    torch.save({"model": backbone}, tmp_path / "backbone.pth")
    with pytest.raises(ValueError, match=r"not the weights of this model.*sem_seg_head"):
        Predictor(folder, str(tmp_path / "backbone.pth"))


def test_tasks_and_thresholds(folder: Path, picture: np.ndarray) -> None:
    only = Predictor(folder, tasks=["semantic"])(picture)
    assert only.tasks == ("semantic",)
    with pytest.raises(ValueError, match="no panoptic result"):
        only.panoptic  # noqa: B018
    with pytest.raises(ValueError, match="'depth' is not a task"):
        Predictor(folder, tasks=["depth"])
    with pytest.raises(ValueError, match=r"not instance.*INSTANCE_ON"):
        Predictor(folder, tasks=["instance"], opts=["MODEL.MASK_FORMER.TEST.INSTANCE_ON", "False"])
    with pytest.raises(ValueError, match="within 0 and 1"):
        Predictor(folder, threshold=2)


def test_nothing_is_imported_before_it_is_needed() -> None:
    code = (
        "import mask2former, sys\n"
        "assert 'mask2former.predictor' not in sys.modules\n"
        "from mask2former import Predictor\n"
        "import mask2former.engine.trainer\n"
        "assert not {'matplotlib', 'scipy'} & set(sys.modules)"  # a second each
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    with pytest.raises(AttributeError, match="has no attribute 'Predicter'"):
        mask2former.Predicter  # noqa: B018


# Pictures.


def test_files_arrays_and_images_are_the_same_picture(
    predictor: Predictor, picture: np.ndarray, tmp_path: Path
) -> None:
    file = tmp_path / "a b.png"
    Image.fromarray(picture).save(file)
    expected = predictor(picture)
    for source in (file, str(file), Image.fromarray(picture), Image.open(file)):
        result = predictor(source)
        assert np.array_equal(result.image, picture)
        assert same(result, expected)
    assert predictor(file).file_name == "a b.png"
    assert expected.file_name is None


def test_channels(picture: np.ndarray) -> None:
    grey = picture[:, :, 0]
    for source in (grey, grey[:, :, None], Image.fromarray(grey)):
        loaded = load_picture(source).pixels
        assert loaded.shape == picture.shape
        assert np.array_equal(loaded[:, :, 2], grey)
    alpha = np.dstack([picture, grey])
    for source in (alpha, Image.fromarray(alpha)):
        assert np.array_equal(load_picture(source).pixels, picture)


def test_pictures_are_turned_as_exif_says(picture: np.ndarray, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(picture).save(tmp_path / "turned.png", exif=exif)
    for source in (tmp_path / "turned.png", Image.open(tmp_path / "turned.png")):
        assert np.array_equal(load_picture(source).pixels, np.rot90(picture, -1))


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (np.zeros((8, 8, 3)), ValueError, r"array of float64.*uint8"),
        (np.zeros((3, 8, 9), np.uint8), ValueError, r"shape \(3, 8, 9\).*transpose"),
        (np.zeros((0, 8, 3), np.uint8), ValueError, r"shape \(0, 8, 3\)"),
        (torch.zeros(3, 8, 8), TypeError, r"found Tensor.*permute"),
        (Image.new("I;16", (8, 8)), ValueError, "more than 8 bits"),
        ("nowhere.jpg", FileNotFoundError, "no such picture"),
    ],
)
def test_what_is_no_picture(source: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_picture(source)


@pytest.mark.parametrize("shape", [(8, 9, 3), (8, 9, 4), (8, 9), (8, 9, 1)])
def test_arrays_stay_their_owners(shape: tuple[int, ...]) -> None:
    """What a camera writes into its array afterwards does not get into the result, nor the other way round."""
    array = np.zeros(shape, np.uint8)
    pixels = load_picture(array).pixels
    array[:] = 7
    assert not pixels.any()
    pixels[:] = 9
    assert (array == 7).all()


def test_colours_of_sixteen_bits(tmp_path: Path) -> None:
    file = tmp_path / "deep.png"
    cv2.imwrite(str(file), np.full((8, 8, 3), 4000, np.uint16))
    for source in (file, Image.open(file)):
        with pytest.raises(ValueError, match="more than 8 bits"):
            load_picture(source)


@pytest.fixture
def server(picture: np.ndarray, tmp_path: Path) -> Iterator[str]:
    """The URL of a server with a picture and a text."""
    Image.fromarray(picture).save(tmp_path / "picture.png")
    (tmp_path / "text.png").write_text("no picture")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_urls(server: str, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_picture(f"{server}/picture.png?size=large")
    assert np.array_equal(loaded.pixels, picture)
    assert loaded.name == "picture.png"
    with pytest.raises(DownloadError, match=r"nowhere\.png: the server answers 404"):
        load_picture(f"{server}/nowhere.png")
    with pytest.raises(ValueError, match=r"text\.png: not a picture"):
        load_picture(f"{server}/text.png")
    monkeypatch.setattr(pictures, "MOST_BYTES", 100)
    with pytest.raises(DownloadError, match="by hand"):
        load_picture(f"{server}/picture.png")


def test_no_network() -> None:
    with pytest.raises(DownloadError, match=r"cannot be had.*by hand"):
        load_picture("http://host.invalid/a.jpg")


def test_folders_lists_and_globs(predictor: Predictor, picture: np.ndarray, tmp_path: Path) -> None:
    """Pictures of different sizes do not change one another's results."""
    sizes = {"a": picture, "b": picture[:40, :50], "c": picture[:40, :50][::-1], "d": picture}
    for name, pixels in sizes.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    alone = {name: predictor(pixels) for name, pixels in sizes.items()}
    predictor.batch_size = 3
    try:
        together = predictor(tmp_path)
    finally:
        predictor.batch_size = 1
    assert [result.file_name for result in together] == ["a.png", "b.png", "c.png", "d.png"]
    for result, name in zip(together, sizes, strict=True):
        assert result.semantic.shape == sizes[name].shape[:2]
        assert (result.semantic != alone[name].semantic).mean() < 0.01, "a batch rounds otherwise"
    assert [result.file_name for result in predictor(str(tmp_path / "[ab].png"))] == ["a.png", "b.png"]
    assert len(predictor([tmp_path / "a.png", picture])) == 2
    assert predictor([]) == []
    with pytest.raises(FileNotFoundError, match="no such file"):
        find_pictures(tmp_path / "*.jpg")


def test_a_stream_reads_no_further_than_its_batch(predictor: Predictor, picture: np.ndarray) -> None:
    read: list[int] = []

    def frames() -> Iterator[np.ndarray]:
        for number in range(5):
            read.append(number)
            yield picture

    stream = predictor.stream(frames(), batch_size=2)
    next(stream)
    assert read == [0, 1]
    assert len(list(stream)) == 4


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_has_a_picture(predictor: Predictor, folder: Path, size: int) -> None:
    with pytest.raises(ValueError, match=rf"batch_size is {size}; .*at least 1"):
        predictor.stream([], batch_size=size)
    with pytest.raises(ValueError, match=rf"batch_size is {size}; .*at least 1"):
        Predictor(folder, batch_size=size)


# Results.


def test_arrays_agree_with_the_model(predictor: Predictor, picture: np.ndarray) -> None:
    predictor.model.object_mask_threshold, before = EVERYTHING, predictor.model.object_mask_threshold
    try:
        outputs = predictor.outputs(picture)
    finally:
        predictor.model.object_mask_threshold = before
    result = predictor(picture)
    ids, segments = outputs["panoptic_seg"]
    assert result.panoptic.dtype == np.int32
    assert np.array_equal(result.panoptic, ids.numpy())
    assert [s["id"] for s in result.segments] == [s["id"] for s in segments]
    assert sum(s["area"] for s in result.segments) == (result.panoptic > 0).sum()
    assert np.array_equal(result.semantic, outputs["sem_seg"].argmax(0).numpy())

    expected = outputs["instances"][outputs["instances"].scores >= EVERYTHING]
    found = result.instances
    assert len(found) == len(expected) > 0
    assert np.all(np.diff(found.scores) <= 0)
    assert np.allclose(np.sort(found.scores), np.sort(expected.scores.numpy()))
    assert found.masks.shape == (len(found), HEIGHT, WIDTH)
    for mask, box in zip(found.masks, found.boxes, strict=True):
        if mask.any():
            ys, xs = np.nonzero(mask)
            assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def test_another_threshold_needs_no_other_run(predictor: Predictor, picture: np.ndarray, folder: Path) -> None:
    result = predictor(picture)
    none = result.at_threshold(1.0)
    assert len(none.instances) == len(none.segments) == 0
    assert len(result.instances) and len(result.segments)
    assert none.semantic is not None
    result.compute()
    assert len(result.instances)
    with pytest.raises(ValueError, match="before compute"):
        result.at_threshold(0.5)


def test_large_pictures_are_cut_into_tiles(folder: Path, predictor: Predictor, picture: np.ndarray) -> None:
    tiled = Predictor(folder, threshold=EVERYTHING, tile=64, overlap=16)
    assert same(tiled(picture), predictor(picture))  # one tile: as if there were none
    large = np.random.default_rng(1).integers(0, 256, (80, 150, 3), dtype=np.uint8)
    pixels = torch.from_numpy(large.transpose(2, 0, 1).copy())
    with torch.no_grad():
        expected = TiledInference(predictor.model, 64, 16)([{"image": pixels}])[0]
    result, outputs = tiled(large), tiled.outputs(large)
    assert np.array_equal(result.semantic, expected["sem_seg"].argmax(0).numpy())
    scores = expected["instances"].scores.sort(descending=True).values
    assert np.array_equal(result.instances.scores, scores[scores >= EVERYTHING].numpy()) and len(scores)
    places = [expected["instances"].scores.tolist().index(score) for score in result.instances.scores.tolist()]
    assert np.array_equal(result.instances.masks, expected["instances"].pred_masks[places].numpy())
    assert result.segments and result.panoptic.shape == large.shape[:2] == tuple(outputs["panoptic_seg"][0].shape)
    assert torch.equal(outputs["panoptic_seg"][0], expected["panoptic_seg"][0])  # at the configuration's threshold
    first = next(tiled.stream([large]))
    assert first.segments and not first.at_threshold(1.0).segments
    only = Predictor(folder, tasks=["semantic"], tile=64, overlap=16)(large)
    assert np.array_equal(only.semantic, result.semantic)
    with pytest.raises(ValueError, match="tile is 64, overlap 32"):
        Predictor(folder, tile=64, overlap=32)
    with pytest.raises(ValueError, match="tile is 0; it has to be at least 1"):
        Predictor(folder, tile=0)


class FoundBefore(torch.nn.Module):
    """Stands for a model of Detectron2's own: gives the same things and stuff for every picture."""

    def forward(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        outputs = []
        for inputs in batch:
            ids = torch.zeros(inputs["height"], inputs["width"], dtype=torch.int32)
            ids[:10], ids[10:20], ids[20:30] = 1, 2, 3
            segments = [
                {"id": 1, "isthing": True, "score": 0.9, "category_id": 1, "instance_id": 0},
                {"id": 2, "isthing": True, "score": 0.4, "category_id": 2, "instance_id": 1},
                {"id": 3, "isthing": False, "category_id": 8, "area": 10},
            ]
            outputs.append({"panoptic_seg": (ids, segments)})
        return outputs


def test_threshold_of_other_architectures(folder: Path, picture: np.ndarray) -> None:
    """Of things that have a score; in tiles too, whose joined segments have none."""
    predictor = Predictor(folder, tasks=["panoptic"])
    predictor.model = FoundBefore()
    result = next(predictor.stream([picture]))
    assert [s["category_id"] for s in result.segments] == [1, 2, 8]
    chosen = result.at_threshold(0.5)
    assert [s["category_id"] for s in chosen.segments] == [1, 8]
    assert [int(chosen.panoptic[row, 0]) for row in (5, 15, 25)] == [1, 0, 3]
    assert [s["category_id"] for s in result.segments] == [1, 2, 8]

    large = np.zeros((30, 200, 3), np.uint8)
    tiled = Predictor(folder, tasks=["panoptic"], tile=128, overlap=16, threshold=0.5)
    tiled.model = predictor.model
    assert [s["category_id"] for s in tiled(large).segments] == [1, 8]


@pytest.mark.parametrize("width", [40, 100])
def test_outputs_lie_on_the_cpu_where_there_are_tiles(folder: Path, width: int) -> None:
    """Those of a picture that is not cut too; the device is one that needs no hardware."""

    def model(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"sem_seg": torch.zeros(2, one["height"], one["width"], device="cuda")} for one in batch]

    predictor = Predictor(folder, tasks=["semantic"], tile=64, overlap=16)
    predictor.model = model  # type: ignore[assignment]
    with FakeTensorMode():
        scores = predictor.outputs(np.zeros((50, width, 3), np.uint8))["sem_seg"]
    assert scores.device.type == "cpu" and scores.shape == (2, 50, width)


def test_every_task_by_itself(predictor: Predictor, picture: np.ndarray) -> None:
    """What was asked for first does not change what comes next."""
    first, second = predictor(picture), predictor(picture)
    assert np.array_equal(first.instances.masks, second.compute().instances.masks)
    assert same(first, second)


def test_drawing_and_saving(predictor: Predictor, picture: np.ndarray, tmp_path: Path) -> None:
    result = predictor(picture)
    plain, legend = result.draw(), result.draw(legend=True)
    assert legend.shape[0] > plain.shape[0]
    assert np.array_equal(legend[: plain.shape[0]], plain)
    assert result.draw(beside=True).shape[1] > 2 * plain.shape[1]
    file = result.save(tmp_path / "new" / "out.png", "semantic", "masks")
    assert np.array_equal(np.array(Image.open(file)), result.draw("semantic", "masks"))
    assert result._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(OSError, match=r"out\.nothing: no picture format"):
        result.save(tmp_path / "out.nothing")
    with pytest.raises(ValueError, match="mode is 'mask'"):
        result.draw(mode="mask")


def test_label_maps(predictor: Predictor, picture: np.ndarray, tmp_path: Path) -> None:
    result = predictor(picture)
    for task, expected in {"panoptic": result.panoptic, "semantic": result.semantic}.items():
        labels = result.draw(task, "labels")
        assert labels.dtype == np.uint8
        assert np.array_equal(labels, expected)
    best = result.label_map("instance")
    assert np.all(best[result.instances.masks[0]] == 1)
    assert np.array_equal(best == 0, ~result.instances.masks.any(axis=0))
    result._found["semantic"] = result.semantic * 100  # as many classes
    file = result.save(tmp_path / "labels.png", "semantic", "labels")
    assert np.array_equal(np.array(Image.open(file)), result.semantic)
    assert result.label_map("semantic").dtype == np.uint16


def test_masks_as_files(predictor: Predictor, picture: np.ndarray, tmp_path: Path) -> None:
    result = predictor(picture)
    files = result.save_masks(tmp_path, "panoptic")
    assert len(files) == len(result.segments)
    for file, segment in zip(files, result.segments, strict=True):
        assert segment["name"] in file.name
        assert np.array_equal(np.array(Image.open(file)) == 255, result.panoptic == segment["id"])


def test_coco_files(predictor: Predictor, picture: np.ndarray, tmp_path: Path) -> None:
    result = predictor(picture)
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(result.to_coco("instance", image_id=7)))
    coco = COCO(str(file))
    found = result.instances
    back = predictor.metadata.thing_dataset_id_to_contiguous_id
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=[7]))
    assert len(annotations) == len(found)
    for annotation, mask, number, score in zip(annotations, found.masks, found.classes, found.scores, strict=True):
        assert np.array_equal(coco.annToMask(annotation).astype(bool), mask)
        assert back[annotation["category_id"]] == number
        assert coco.cats[annotation["category_id"]]["name"] == predictor.metadata.thing_classes[number]
        assert annotation["score"] == pytest.approx(float(score))

    panoptic = json.loads(json.dumps(result.to_coco("panoptic")))
    png = panoptic_png(result.panoptic).astype(int)
    assert np.array_equal(png @ (1, 256, 65536), result.panoptic)
    names = {category["id"]: category["name"] for category in panoptic["categories"]}
    for entry, segment in zip(panoptic["annotations"][0]["segments_info"], result.segments, strict=True):
        assert (entry["id"], entry["area"], names[entry["category_id"]]) == (
            segment["id"],
            segment["area"],
            segment["name"],
        )
    semantic = result.to_coco("semantic")["annotations"]
    assert sum(annotation["area"] for annotation in semantic) == HEIGHT * WIDTH


def test_panoptic_quality_of_a_result_against_itself_is_one(
    predictor: Predictor, picture: np.ndarray, tmp_path: Path
) -> None:
    """The official program reads what we write."""
    evaluation = pytest.importorskip("panopticapi.evaluation", reason="panopticapi is not installed")
    result = predictor(picture)
    content = result.to_coco("panoptic")
    assert content["annotations"][0]["segments_info"]
    (tmp_path / "panoptic").mkdir()
    Image.fromarray(panoptic_png(result.panoptic)).save(tmp_path / "panoptic" / content["annotations"][0]["file_name"])
    pngs = str(tmp_path / "panoptic")
    found = {segment["category_id"]: segment for segment in content["annotations"][0]["segments_info"]}
    stat = evaluation.pq_compute_single_core(
        0,
        [(content["annotations"][0], content["annotations"][0])],
        pngs,
        pngs,
        {category["id"]: category for category in content["categories"]},
    )
    for category in found:
        assert stat[category].tp and not stat[category].fp and not stat[category].fn


def test_supervision(predictor: Predictor, picture: np.ndarray) -> None:
    pytest.importorskip("supervision", reason="the optional package supervision is not installed")
    result = predictor(picture)
    detections = result.to_supervision()
    assert np.array_equal(detections.xyxy, result.instances.boxes)
    assert np.array_equal(detections.mask, result.instances.masks)
    assert detections.data["class_name"][0] == predictor.names[result.instances.classes[0]]
    segments = result.to_supervision("panoptic")
    assert len(segments) == len(result.segments)
    with pytest.raises(ValueError, match="no detections"):
        result.to_supervision("semantic")


def test_label_numbers_are_never_changed_by_a_format(predictor: Predictor, picture: np.ndarray, tmp_path: Path) -> None:
    result = predictor(picture)
    with pytest.raises(ValueError, match=r"labels\.jpg: this format would change label numbers"):
        result.save(tmp_path / "labels.jpg", mode="labels")
    assert result.save(tmp_path / "labels.png", mode="labels").is_file()
