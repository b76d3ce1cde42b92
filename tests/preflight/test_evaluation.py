"""The evaluation is tried on one image before a training: what would end it after hours is said in the first minute."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from PIL import Image

from mask2former.config import ConfigError, load_config
from mask2former.data import register_all
from mask2former.engine.trainer import Trainer
from mask2former.evaluation.instance import InstanceEvaluator
from mask2former.preflight import check_run

ROOT = Path(__file__).parents[2]
TASKS = ("panoptic", "instance", "semantic")
PNG = "panoptic/val/003.png"


@pytest.fixture
def build(datasets: Path, small_network: list[str], tmp_path: Path) -> Callable[..., CfgNode]:
    """A copy of the quickstart's data, below ``tmp_path/data/quickstart``, and its configuration."""
    shutil.copytree(datasets, tmp_path / "data")
    register_all(str(tmp_path / "data"))

    def make(task: str, *options: str) -> CfgNode:
        defaults = ["OUTPUT_DIR", str(tmp_path / "output"), "SOLVER.MAX_ITER", "1", "SOLVER.WARMUP_ITERS", "0"]
        return load_config(str(ROOT / f"configs/quickstart/{task}.yaml"), [*small_network, *defaults, *options])

    yield make
    register_all(str(datasets))


@pytest.mark.parametrize("task", TASKS)
def test_a_sound_run_passes_and_writes_nothing(build: Callable[..., CfgNode], tmp_path: Path, task: str) -> None:
    check_run(build(task))
    assert not (tmp_path / "output").exists()


def change(name: str, edit: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        file = root / f"annotations/{name}_val.json"
        content = json.loads(file.read_text())
        edit(content)
        file.write_text(json.dumps(content))

    return damage


def image(name: str, pixels: Any) -> Callable[[Path], None]:
    return lambda root: Image.fromarray(np.asarray(pixels)).save(root / name)


SMALL = np.zeros((9, 9), np.uint8)
DAMAGE: list[tuple[str, Callable[[Path], Any], str]] = [
    ("panoptic", lambda root: (root / PNG).unlink(), r"1 of 4 files \(pan_seg_file_name\) are missing, such as .*003"),
    ("panoptic", lambda root: (root / "images/val/004.png").unlink(), r"1 of 4 files \(file_name\) are missing"),
    ("semantic", lambda root: (root / "semantic/val/001.png").unlink(), "lacks a file for 1 of the names"),
    ("panoptic", image("panoptic/val/001.png", np.zeros((64, 64), np.uint8)), "none of the image's 2 segments"),
    ("panoptic", image("panoptic/val/001.png", np.ones((9, 9, 3), np.uint8)), r"Image 1, ground truth .*\(9, 9\)"),
    ("panoptic", lambda root: (root / "panoptic/val/001.png").write_bytes(b"x"), "001.png: not an image"),
    ("semantic", image("semantic/val/001.png", SMALL), r"001.png: the prediction's .* is \(64, 64\), the ground truth"),
    ("semantic", image("semantic/val/001.png", np.full((64, 64), 77, np.uint8)), "001.png: found the label 77"),
    ("panoptic", change("panoptic", lambda c: c["annotations"][2]["segments_info"][0].update(id=0)),
     r"panoptic_val.json: annotation of image 3, segment 0: the id 0"),
    ("panoptic", change("panoptic", lambda c: c["annotations"][2]["segments_info"][0].update(iscrowd="0")),
     r"panoptic_val.json: annotation of image 3, segment 1: iscrowd is '0'"),
    ("panoptic", change("panoptic", lambda c: c["annotations"][2].update(file_name="../../a.png")), "leads out of"),
    ("panoptic", change("panoptic", lambda c: [one.pop("isthing") for one in c["categories"]]), "'isthing' 0 or 1"),
    ("panoptic", change("instances", lambda c: c["categories"].pop()), r"category ids \[\d+\] of its metadata"),
    ("panoptic", change("instances", lambda c: c["images"].pop(1)), "its image 2 is not listed in 'images'"),
    ("instance", change("instances", lambda c: c["annotations"][1].update(segmentation={"size": [1, 1]})),
     "the mask's size"),
    ("instance", change("instances", lambda c: c["annotations"][1].update(iscrowd="false")), "iscrowd is 'false'"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "damage", "says"), DAMAGE)
def test_what_would_end_the_evaluation_is_said_before_the_training(
    build: Callable[..., CfgNode], tmp_path: Path, task: str, damage: Callable[[Path], Any], says: str
) -> None:
    damage(tmp_path / "data/quickstart")
    cfg = build(task)
    with pytest.raises(ConfigError, match=f"(?s)quickstart_val.*{says}|{says}"):
        check_run(cfg)
    if "missing" not in says:  # the trainer, which a script of one's own calls, tries the first image
        trainer = Trainer(cfg)
        with pytest.raises((ValueError, FileNotFoundError), match=says):
            trainer.train()
        assert trainer.iter == trainer.start_iter == 0


def test_the_training_does_not_try_again_what_the_checks_have_just_tried(
    build: Callable[..., CfgNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []
    whole = InstanceEvaluator.rehearse
    monkeypatch.setattr(InstanceEvaluator, "rehearse", lambda self, records: tried.append(whole(self, records)))
    cfg = build("instance")
    check_run(cfg)
    assert len(tried) == 1
    Trainer(cfg).train()
    assert len(tried) == 1
    check_run(cfg)
    Trainer(build("instance", "TEST.DETECTIONS_PER_IMAGE", "150")).train()  # other settings
    assert len(tried) == 3
    Trainer(cfg).train()
    Trainer(cfg).train()  # without the checks
    assert len(tried) == 4


@pytest.fixture
def mine(datasets: Path, tmp_path: Path) -> Iterator[Path]:
    """A file whose licenses are null, as Detectron2's own converter writes it, with text ids; registered as "mine"."""
    root = datasets / "quickstart"
    content = json.loads((root / "annotations/instances_val.json").read_text())
    content["licenses"] = None
    for one in content["images"]:
        one["id"] = f"image {one['id']}"
    for one in content["annotations"]:
        one.update(image_id=f"image {one['image_id']}", id=f"object {one['id']}", iscrowd=None)
        del one["bbox"], one["area"]
    (tmp_path / "mine.json").write_text(json.dumps(content))
    register_coco_instances("mine", {}, str(tmp_path / "mine.json"), str(root / "images/val"))
    yield tmp_path
    DatasetCatalog.remove("mine")
    MetadataCatalog.remove("mine")


def test_a_sloppy_file_is_trained_on_and_scored(mine: Path, build: Callable[..., CfgNode]) -> None:
    sets = ["DATASETS.TRAIN", "('mine',)", "DATASETS.TEST", "('mine',)", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "8"]
    cfg = build("instance", *sets)
    check_run(cfg)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    scores = trainer.train()
    assert {"bbox", "segm"} <= set(scores) and 0 <= scores["segm"]["AP"] <= 100
