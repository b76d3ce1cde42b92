"""What would end a run is found before it begins, all at once; and nothing is found in what is sound."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from mask2former.config import ConfigError, load_config
from mask2former.data import register_all
from mask2former.data.images.limits import MAX_PIXELS, max_pixels, set_max_pixels
from mask2former.preflight.preflight import check_run, problems

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(p for p in (ROOT / "configs").rglob("*.yaml") if "_base_" not in p.parts and p.name != "base.yaml")
FOLDERS = ("image_root", "image_dir", "gt_dir", "panoptic_root", "sem_seg_root")
FILES = ("json_file", "panoptic_json", "subset_of")


@pytest.fixture
def quickstart(datasets: Path, small_network: list[str], tmp_path: Path) -> Callable[..., CfgNode]:
    """The quickstart's configuration with its data there, changed by options."""
    register_all(str(datasets))

    def build(*options: Any, task: str = "panoptic") -> CfgNode:
        defaults = ["OUTPUT_DIR", str(tmp_path / "output"), "SOLVER.MAX_ITER", "100"]
        file = str(ROOT / f"configs/quickstart/{task}.yaml")
        return load_config(file, [*small_network, *defaults, *map(str, options)])

    return build


def found(cfg: CfgNode, fatal: bool = True, **arguments: Any) -> list[str]:
    return [one.found for one in problems(cfg, **arguments) if one.fatal == fatal]


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
def test_a_sound_run_has_no_problem(quickstart: Callable[..., CfgNode], task: str) -> None:
    assert list(problems(quickstart(task=task))) == []


def test_training_from_scratch_is_no_remedy_for_an_evaluation(quickstart: Callable[..., CfgNode]) -> None:
    cfg = quickstart("MODEL.WEIGHTS", "nothing.pth")
    for eval_only in (False, True):
        (missing,) = (one for one in problems(cfg, eval_only=eval_only) if one.fatal)
        assert ("trains from scratch" in missing.remedy) != eval_only


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: str(p.relative_to(ROOT / "configs")))
def test_no_configuration_raises_a_false_alarm(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With faked data and weights, and room on the disk."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**13))
    register_all(str(tmp_path))
    cfg = load_config(str(path), ["OUTPUT_DIR", str(tmp_path / "output")])
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        fake_files(MetadataCatalog.get(name).as_dict())
        if classes := MetadataCatalog.get(name).get("class_root"):
            if not any(one.is_dir() for one in Path(classes).iterdir()):
                assert "found no folders" in " ".join(found(cfg))
            for number in range(1000):
                Path(classes, f"n{number:08}").mkdir(exist_ok=True)
    if cfg.MODEL.WEIGHTS and "://" not in cfg.MODEL.WEIGHTS:
        Path(cfg.MODEL.WEIGHTS).write_bytes(b"\x80")
    if cfg.MODEL.DISTILLATION.ENABLED:
        assert len(found(cfg)) == 2 and not found(cfg, eval_only=True)
        for key in ("TEACHER_CONFIG", "TEACHER_WEIGHTS"):
            file = tmp_path / cfg.MODEL.DISTILLATION[key]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    assert found(cfg) == []


def fake_files(meta: dict[str, Any]) -> None:
    for key in FOLDERS:
        if key in meta:
            Path(meta[key]).mkdir(parents=True, exist_ok=True)
            Path(meta[key], "one.png").touch()
    for key in FILES:
        if key in meta:
            Path(meta[key]).parent.mkdir(parents=True, exist_ok=True)
            Path(meta[key]).write_text(json.dumps({"images": [{"id": 1, "file_name": "one.png"}]}))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["DATASETS.TRAIN", "('quickstart_trian_panoptic',)"], "quickstart_trian_panoptic: no data set of that name"),
        (["DATASETS.TRAIN", "()"], "DATASETS.TRAIN is empty"),
        (["MODEL.SEM_SEG_HEAD.NUM_CLASSES", 11], "has 12 classes (panoptic), but"),
        (["MODEL.WEIGHTS", "nothing.pth"], "MODEL.WEIGHTS nothing.pth: there is no such file"),
        (["SOLVER.MAX_ITER", 0], "SOLVER.MAX_ITER is 0"),
        (["SOLVER.IMS_PER_BATCH", 0], "SOLVER.IMS_PER_BATCH is 0"),
        (["SOLVER.CHECKPOINT_PERIOD", 0], "SOLVER.CHECKPOINT_PERIOD is 0"),
        (["TEST.EVAL_PERIOD", -1], "TEST.EVAL_PERIOD is -1"),
        (["SOLVER.BASE_LR", 0.0], "nothing would be learnt"),
    ],
)
def test_faults_of_the_configuration(quickstart: Callable[..., CfgNode], options: list[Any], expected: str) -> None:
    assert any(expected in text for text in found(quickstart(*options)))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["MODEL.SEM_SEG_HEAD.NUM_CLASSES", 13], "has 12 classes (panoptic), but"),
        (["TEST.EVAL_PERIOD", 101], "TEST.EVAL_PERIOD 101 is after"),
        (["SOLVER.WARMUP_ITERS", 100], "SOLVER.WARMUP_ITERS 100 is not before"),
        (
            ["SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR", "SOLVER.STEPS", "(50, 200)"],
            "SOLVER.STEPS [200] are after",
        ),
        (["SOLVER.IMS_PER_BATCH", 10**7], "GB of memory, roughly estimated"),
    ],
)
def test_doubts_do_not_stop(quickstart: Callable[..., CfgNode], options: list[Any], expected: str) -> None:
    cfg = quickstart(*options)
    assert any(expected in text for text in found(cfg, fatal=False)) and not found(cfg)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("annotations/panoptic_train.json", "panoptic_train.json (panoptic_json) is missing"),
        ("annotations/instances_val.json", "instances_val.json (json_file) is missing"),  # read after the training
        ("semantic/val", "(sem_seg_root) is missing"),
        ("images/train", "(image_root) is missing"),
        ("images/val/001.png", "the first image that"),
    ],
)
def test_missing_files(
    quickstart: Callable[..., CfgNode], datasets: Path, tmp_path: Path, path: str, expected: str
) -> None:
    cfg = quickstart()
    shutil.copytree(datasets, tmp_path / "data")
    gone = tmp_path / "data" / "quickstart" / path
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    register_all(str(tmp_path / "data"))
    assert any(expected in text for text in found(cfg))


def test_the_training_set_is_not_needed_to_evaluate(quickstart: Callable[..., CfgNode]) -> None:
    cfg = quickstart("DATASETS.TRAIN", "('nothing',)")
    assert found(cfg) and not found(cfg, eval_only=True)


def test_nothing_to_score(quickstart: Callable[..., CfgNode]) -> None:
    test = ["DATASETS.TEST", "('quickstart_val_instance',)"]
    switches = ["MODEL.MASK_FORMER.TEST.INSTANCE_ON", "False", "MODEL.MASK_FORMER.TEST.PANOPTIC_ON", "True"]
    assert any("has nothing to score" in text for text in found(quickstart(*test, *switches, task="instance")))


def test_a_task_without_ground_truth_is_a_doubt(quickstart: Callable[..., CfgNode]) -> None:
    cfg = quickstart("MODEL.MASK_FORMER.TEST.SEMANTIC_ON", "True")
    MetadataCatalog.get("without").set(
        **{k: v for k, v in MetadataCatalog.get("quickstart_val_panoptic").as_dict().items() if k != "sem_seg_root"}
        | {"name": "without"}
    )
    DatasetCatalog.register("without", list)
    try:
        cfg.DATASETS.TEST = ("without",)
        assert any("without has no sem_seg_root" in text for text in found(cfg, fatal=False)) and not found(cfg)
    finally:
        DatasetCatalog.remove("without")
        MetadataCatalog.remove("without")


@pytest.mark.parametrize("kind", ["json", "catalog"])
def test_data_sets_that_users_register_themselves(
    quickstart: Callable[..., CfgNode], datasets: Path, kind: str
) -> None:
    """By Detectron2's function, or in plain Python: then its evaluator writes the file that it scores against."""
    root = datasets / "quickstart"
    if kind == "json":
        register_coco_instances("mine", {}, str(root / "annotations/instances_val.json"), str(root / "images/val"))
    else:
        DatasetCatalog.register("mine", list)
        MetadataCatalog.get("mine").set(thing_classes=[str(i) for i in range(8)], evaluator_type="coco")
    try:
        mine = ["DATASETS.TRAIN", "('mine',)", "DATASETS.TEST", "('mine',)", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 8]
        assert list(problems(quickstart(*mine, task="instance"))) == []
    finally:
        DatasetCatalog.remove("mine")
        MetadataCatalog.remove("mine")


def test_broken_weights(quickstart: Callable[..., CfgNode], tmp_path: Path) -> None:
    whole = tmp_path / "whole.pth"
    torch.save({"model": {"a": torch.zeros(1000)}}, whole)
    assert not found(quickstart("MODEL.WEIGHTS", whole))
    for name, content in (("half.pth", whole.read_bytes()[:2000]), ("empty.pth", b""), ("page.pth", b"<html>")):
        (tmp_path / name).write_bytes(content)
        assert any("is incomplete" in text for text in found(quickstart("MODEL.WEIGHTS", tmp_path / name)))


def test_weights_are_not_needed_where_a_checkpoint_is(quickstart: Callable[..., CfgNode], tmp_path: Path) -> None:
    cfg = quickstart("MODEL.WEIGHTS", "nothing.pth")
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "last_checkpoint").write_text("model_0000099.pth")
    assert found(cfg) and not found(cfg, resume=True)


def test_output_folder(quickstart: Callable[..., CfgNode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    assert any("is a file" in text for text in found(quickstart("OUTPUT_DIR", tmp_path / "file" / "below")))
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert any("is not writable" in text for text in found(quickstart()))


def test_room_for_the_checkpoints(quickstart: Callable[..., CfgNode], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**9))
    assert not found(quickstart("SOLVER.CHECKPOINT_PERIOD", 50))
    (text,) = found(quickstart("SOLVER.CHECKPOINT_PERIOD", 10))
    assert "11 checkpoints of about 0.2 GB each do not fit in the 1.0 GB" in text


def test_gpus(quickstart: Callable[..., CfgNode], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert any("--num-gpus 4: PyTorch sees 2" in text for text in found(quickstart(), num_gpus=4))
    assert any("cannot be shared out among 6" in text for text in found(quickstart(), num_gpus=2, machines=3))


def test_all_is_said_at_once(quickstart: Callable[..., CfgNode], capsys: pytest.CaptureFixture[str]) -> None:
    cfg = quickstart("MODEL.WEIGHTS", "nothing.pth", "SOLVER.MAX_ITER", 0, "SOLVER.CHECKPOINT_PERIOD", 0)
    with pytest.raises(ConfigError, match=r"found 3 faults that would end this run:\n") as error:
        check_run(cfg)
    assert str(error.value).count("\n  - ") == 3
    check_run(quickstart("TEST.EVAL_PERIOD", 200))
    assert "warning: TEST.EVAL_PERIOD 200" in capsys.readouterr().err


def test_the_limit_on_pixels_holds_from_the_check_on(quickstart: Callable[..., CfgNode]) -> None:
    try:
        check_run(quickstart("INPUT.MAX_PIXELS", 64 * 64, "SOLVER.IMS_PER_BATCH", 2))
        assert max_pixels() == 64 * 64
        with pytest.raises(ConfigError, match=r"INPUT.MAX_PIXELS is -1"):
            check_run(quickstart("INPUT.MAX_PIXELS", -1))
    finally:
        set_max_pixels(MAX_PIXELS)
