"""tools/train_custom.py as a person runs it: each kind of data, from files to scores and a folder with the model."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import video_data
from detectron2.data import DatasetCatalog, MetadataCatalog
from forked import run_python

from mask2former.checkpoint.weights_io import read
from mask2former.cli.train_custom import _settings_among
from mask2former.config import load_config
from mask2former.custom import CustomDataset, DataSource
from mask2former.custom.dataset import Split
from mask2former.custom.model import configuration
from mask2former.custom.plan import plan_training
from mask2former.data.checks import Report
from mask2former.data.images.limits import MAX_PIXELS, set_max_pixels
from mask2former.predictor import Predictor

ROOT = Path(__file__).parents[2]
TINY = [
    *("MODEL.SEM_SEG_HEAD.CONVS_DIM", "32", "MODEL.SEM_SEG_HEAD.MASK_DIM", "32"),
    *("MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", "1", "MODEL.MASK_FORMER.HIDDEN_DIM", "32"),
    *("MODEL.MASK_FORMER.DEC_LAYERS", "3", "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "12"),
    *("MODEL.MASK_FORMER.TRAIN_NUM_POINTS", "64", "MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD", "0.0"),
    *("SOLVER.MAX_ITER", "2", "SOLVER.IMS_PER_BATCH", "2", "MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "64"),
    *("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.CROP.SIZE", "[64, 64]", "DATALOADER.NUM_WORKERS", "0"),
]

CLIPS = [value for key, size in zip(TINY[::2], TINY[1::2], strict=True) if "CROP" not in key for value in (key, size)]


def paths(root: Path, kind: str, split: str) -> list[str]:
    images, annotations = str(root / "images" / split), root / "annotations"
    return {
        "instance": [str(annotations / f"instances_{split}.json"), images],
        "panoptic": [str(annotations / f"panoptic_{split}.json"), images, str(root / "panoptic" / split)],
        "semantic": [images, str(root / "semantic" / split)],
    }[kind]


def train_custom(*arguments: str) -> str:
    done = run_python(["tools/train_custom.py", *arguments], folder=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("kind", "scores"),
    [("instance", {"mask AP", "box AP"}), ("panoptic", {"PQ", "mask AP", "box AP", "mIoU"}), ("semantic", {"mIoU"})],
)
def test_from_files_to_a_folder_with_the_model(datasets: Path, tmp_path: Path, kind: str, scores: set[str]) -> None:
    root, output = datasets / "quickstart", tmp_path / "mine"
    val = ["--val", *paths(root, kind, "val")] if kind == "panoptic" else []  # else some are held out
    said = train_custom(
        "--train", *paths(root, kind, "train"), *val, "--model", "small", "--output", str(output), "--quiet", *TINY
    )
    assert set(re.findall(r"^(PQ|mask AP|box AP|mIoU) +\S+$", said, flags=re.MULTILINE)) == scores
    assert "4 images for training" in said if val else "No --val: 1 of 4 images" in said
    assert {"config.yaml", "metadata.json", "model_final.pth"} <= {path.name for path in output.iterdir()}
    assert len(list(output.glob("model_0*.pth"))) == 1  # the last, of so short a training
    classes = json.loads((output / "metadata.json").read_text())
    number = len(classes["thing_classes" if kind == "instance" else "stuff_classes"])
    assert number == load_config(str(output / "config.yaml")).MODEL.SEM_SEG_HEAD.NUM_CLASSES
    head = read(str(output / "model_final.pth"))["model"]
    assert next(len(value) for name, value in head.items() if name.endswith("class_embed.bias")) == number + 1
    result = Predictor(str(output), device="cpu")(next((root / "images" / "val").iterdir()))
    assert result.tasks[0] == kind
    result.save(str(tmp_path / "out.png"))
    assert (tmp_path / "out.png").stat().st_size


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_custom", ROOT / "tools/train_custom.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _forget() -> Any:
    yield
    set_max_pixels(MAX_PIXELS)
    for catalog in (DatasetCatalog, MetadataCatalog):  # the predictor registers metadata alone
        for name in [name for name in catalog.list() if name.startswith("custom_")]:
            catalog.remove(name)


@pytest.fixture
def dry_run(tool: ModuleType, datasets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a small model's dry run says, given settings: at the end, or right after the paths."""

    def run(*settings: str, splits: Sequence[str] = ("train",), after_paths: bool = False) -> str:
        data = [word for split in splits for word in (f"--{split}", *paths(datasets / "quickstart", "instance", split))]
        others = ["--model", "small", "--output", str(tmp_path / "mine"), "--dry-run"]
        assert tool.main([*others, *data, *settings] if after_paths else [*data, *others, *settings]) == 0
        assert not (tmp_path / "mine").exists()
        return capsys.readouterr().out

    return run


def test_a_dry_run_shows_the_plan_and_leaves_nothing(dry_run: Callable[..., str]) -> None:
    said = dry_run("SOLVER.IMS_PER_BATCH", "2")
    assert re.search(r"SOLVER.IMS_PER_BATCH +2 +set by you", said)
    assert re.search(r"SOLVER.BASE_LR +0.00028 +0.0004 for 4 images", said)  # follows


@pytest.mark.parametrize("splits", [("train",), ("train", "val"), ("val", "train")])
def test_settings_may_follow_the_paths(dry_run: Callable[..., str], splits: tuple[str, ...]) -> None:
    said = dry_run("SOLVER.MAX_ITER", "7", splits=splits, after_paths=True)
    assert re.search(r"SOLVER.MAX_ITER +7 +set by you", said)


def test_a_file_in_capitals_is_no_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("TRAIN.JSON").write_text("{}")
    given = ["images", "TRAIN.JSON", "SEED", "3"]
    assert _settings_among(given) == ["SEED", "3"]
    assert given == ["images", "TRAIN.JSON"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "coco/instance/r5"], "Similar: coco/instance/r50"),
        (["--model", "small", "--weights", "nothing.pth"], "--from-scratch"),
        (["--model", "small", "OUTPUT_DIR", "here"], "OUTPUT_DIR is what --output says"),
        (["--model", "small", "SOLVER.MAX_ITERS", "5"], "Did you mean SOLVER.MAX_ITER"),
        (["--model", "small", "SOLVER.MAX_ITER", "0"], "SOLVER.MAX_ITER is 0"),
        (["--model", "small", "INPUT.MAX_PIXELS", "0"], "INPUT.MAX_PIXELS is 0"),
        (["--model", "small", "INPUT.MAX_PIXELS", "4095"], "64 x 64 pixels are more than the limit of 4,095"),
    ],
)
def test_mistakes_end_with_what_to_do(
    tool: ModuleType,
    datasets: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    train = paths(datasets / "quickstart", "semantic", "train")
    assert tool.main(["--train", *train, "--output", str(tmp_path / "mine"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_no_network_says_what_else_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(weights: str) -> str:
        raise OSError(f"{weights}: the server cannot be reached")

    monkeypatch.setattr("mask2former.custom.model.weights_file", unreachable)
    with pytest.raises(
        ValueError, match=r"cannot be reached\nTo do without these weights: --weights FILE .*--from-scratch"
    ):
        configuration("coco/instance/r50", None, False, [])
    cfg, _ = configuration("coco/instance/r50", None, True, [])
    assert (cfg.MODEL.WEIGHTS, cfg.MODEL.RESNETS.NORM, cfg.SOLVER.BACKBONE_MULTIPLIER) == ("", "BN", 1.0)


def own_data(images: int, size: tuple[int, int], objects: int, side: int) -> CustomDataset:
    report = Report(sizes=[size] * images)
    report.counts["images"] = images
    for image in range(images):
        for _ in range(objects):
            report.add("a", image, side**2)
    source = DataSource("instance", "images", "i.json")
    category = {"id": 1, "name": "a", "isthing": 1, "color": [0, 0, 0]}
    return CustomDataset("instance", [category], 255, Split("t", source, images), Split("v", source, 10), report, [])


def planned(data: CustomDataset, memory: float, device: str = "cuda", devices: int = 1, **fixed: Any) -> Any:
    cfg = load_config(str(ROOT / "configs/coco/instance/r50.yaml"))
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = device, "weights.pth"
    for key, value in fixed.items():
        cfg.merge_from_list([key.replace("__", "."), value])
    names = {key.replace("__", "."): value for key, value in fixed.items()}
    plan_training(cfg, data, names, memory=memory, devices=devices, cpus=8)
    return cfg


def test_batch_and_crop_follow_from_memory() -> None:
    data = own_data(1000, (1080, 1920), 10, 100)
    large, small, tiny = (planned(data, memory) for memory in (80e9, 12e9, 3.5e9))
    assert (large.SOLVER.IMS_PER_BATCH, large.INPUT.MIN_SIZE_TEST) == (16, 800)
    assert large.SOLVER.BASE_LR == 1e-4
    assert large.SOLVER.IMS_PER_BATCH > small.SOLVER.IMS_PER_BATCH >= tiny.SOLVER.IMS_PER_BATCH == 1
    assert tiny.INPUT.CROP.SIZE[0] < small.INPUT.CROP.SIZE[0] <= 832
    assert small.SOLVER.BASE_LR < large.SOLVER.BASE_LR and small.SOLVER.MAX_ITER > large.SOLVER.MAX_ITER
    assert planned(data, 80e9, devices=2).SOLVER.IMS_PER_BATCH == 16


def test_small_objects_are_enlarged_and_many_get_queries() -> None:
    cfg = planned(own_data(100, (400, 400), 180, 12), 80e9)
    assert cfg.INPUT.MIN_SIZE_TEST == 800
    assert (cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES, cfg.TEST.DETECTIONS_PER_IMAGE) == (250, 180)
    assert planned(own_data(100, (400, 400), 5, 100), 80e9).INPUT.MIN_SIZE_TEST == 384


def test_a_head_from_scratch_learns_things_by_queries_at_places() -> None:
    data = own_data(100, (256, 256), 90, 11)
    scratch, tuned = (planned(data, 80e9, MODEL__WEIGHTS=weights) for weights in ("efficientnet_lite0", "some.pth"))
    former = scratch.MODEL.MASK_FORMER
    assert former.TRANSFORMER_DECODER_NAME == "LocatedQueryDecoder" and former.LOSS_TERMS[-1] == "PlaceLoss"
    assert (former.NUM_LOCATED_QUERIES, scratch.INPUT.MIN_SIZE_TEST) == (150, 512)
    assert tuned.MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME == "MultiScaleMaskedTransformerDecoder"
    assert tuned.MODEL.MASK_FORMER.LOSS_TERMS == ["ClassLoss", "MaskAndDiceLoss"]


def test_on_a_cpu_crops_stay_small_where_small_objects_are_enlarged() -> None:
    cfg = planned(own_data(100, (500, 500), 90, 11), 80e9, device="cpu")
    assert (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.CROP.SIZE) == (800, [320, 320])
    assert planned(own_data(100, (500, 500), 5, 100), 80e9, device="cpu").INPUT.MIN_SIZE_TEST == 320


def test_the_length_follows_from_the_images_within_limits() -> None:
    few, many, cpu = (
        planned(own_data(number, (400, 400), 5, 100), 80e9, device=device)
        for number, device in ((10, "cuda"), (1000, "cuda"), (1000, "cpu"))
    )
    assert (few.SOLVER.MAX_ITER, many.SOLVER.MAX_ITER) == (1000, 3125)  # 16000 images; 50 passes; 16 a step
    assert (cpu.SOLVER.MAX_ITER, cpu.SOLVER.IMS_PER_BATCH) == (1600, 4)
    assert planned(own_data(10, (400, 400), 5, 100), 80e9, SOLVER__MAX_ITER=77).SOLVER.CHECKPOINT_PERIOD == 15


def test_a_short_training_writes_its_weights_once_and_says_why(dry_run: Callable[..., str]) -> None:
    said = dry_run("SOLVER.MAX_ITER", "7")
    assert re.search(r"CHECKPOINT_PERIOD +8 +only at the end, because the training is short", said)
    assert re.search(r"EVAL_PERIOD +0 +only at the end, because the training is short", said)
    assert re.search(r"WARMUP_ITERS +0 +the training is too short for one", said)
    assert "WARMUP_FACTOR" not in said
    fifty = planned(own_data(10, (400, 400), 5, 100), 80e9, SOLVER__MAX_ITER=50).SOLVER
    assert (fifty.CHECKPOINT_PERIOD, fifty.WARMUP_ITERS) == (10, 5)


def test_images_without_any_object_are_not_enlarged() -> None:
    assert planned(own_data(10, (400, 400), 0, 1), 80e9).INPUT.MIN_SIZE_TEST == 384


@pytest.mark.parametrize("form", ["youtube_vis", "mots"])
def test_clips_from_files_to_tracks(tmp_path: Path, form: str) -> None:
    """Tracks in videos train a model of clips; MOTS is recognised by itself, and a video is held out."""
    output = tmp_path / "mine"
    if form == "mots":
        given = ["--train", video_data.write_frames(tmp_path), video_data.write_mots_png(tmp_path)]
    else:
        file, frames = video_data.write_youtube_vis(tmp_path)
        given = ["--train", file, frames, "--val", file, frames]
    said = train_custom(*given, "--model", "small", "--from-scratch", "--output", str(output), "--quiet", *CLIPS)
    assert re.search(r"MODEL.META_ARCHITECTURE +VideoMaskFormer +tracks in videos", said)
    assert re.search(r"MODEL.MASK_FORMER.TEST.TRACKS +10 +up to 3 tracks in a video", said)
    assert ("MOTS png, read as 2 videos, 6 frames, 4 tracks, 9 masks" in said) == (form == "mots")
    assert ("1 of 2 videos are held out" in said) == (form == "mots")
    assert re.search(r"^mask AP +\S+$", said, flags=re.MULTILINE)
    scores = json.loads((output / "scores.json").read_text())["segm"]
    assert {"AP", "AP-car", "AP-pedestrian", "ID switches", "AP-frames<16"} <= set(scores)
    truth = json.loads((output / "data/val/videos.json").read_text()) if form == "mots" else video_data.youtube_vis()
    found = json.loads((output / "inference/results.json").read_text())
    lengths = {video["id"]: len(video["file_names"]) for video in truth["videos"]}
    assert found and all(len(one["segmentations"]) == lengths[one["video_id"]] for one in found)
    assert load_config(str(output / "config.yaml")).MODEL.SEM_SEG_HEAD.NUM_CLASSES == 2
