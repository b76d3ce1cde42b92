"""Scripts written for the published system and Detectron2 run as they are (``scripts/``), each in a process."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from torch import Tensor

from mask2former import add_maskformer2_config
from mask2former.checkpoint.formats import convert
from mask2former.checkpoint.published import is_published
from mask2former.data import Mapper, register_all
from mask2former.engine.trainer import Trainer

SCRIPTS = Path(__file__).parent / "scripts"
CONFIG = SCRIPTS / "model.yaml"


def run(script: str, *arguments: object, datasets: Path, folder: Path) -> str:
    """Run a script as a user does, in a folder of its own."""
    environment = {**os.environ, "DETECTRON2_DATASETS": str(datasets), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(SCRIPTS / script), *map(str, arguments)]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def configuration() -> CfgNode:
    cfg = get_cfg()
    add_maskformer2_config(cfg)
    cfg.merge_from_file(str(CONFIG))
    return cfg


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Weights of the small model, under our names."""
    torch.manual_seed(0)
    return build_model(configuration()).state_dict()


@pytest.fixture(scope="module")
def published_file(state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write weights as the published system writes them."""
    arrays = {name: value.numpy() for name, value in convert(state, "published").items()}
    assert is_published(arrays)
    file = tmp_path_factory.mktemp("published") / "model_final.pkl"
    file.write_bytes(pickle.dumps({"model": arrays, "__author__": "somebody"}))
    return file


def test_training_with_each_mapper_and_own_data(datasets: Path, tmp_path: Path, published_file: Path) -> None:
    """DefaultTrainer, whose loader has the published mapper. Own instances are of 8 classes, the file's of 12."""
    data = {
        "mask_former_semantic": ("pixels_train", False, False, 12),
        "mask_former_panoptic": ("quickstart_train_panoptic", True, True, 12),
        "mask_former_instance": ("shapes_train", False, True, 8),
        "coco_panoptic_lsj": ("quickstart_train_panoptic", True, True, 12),
        "coco_instance_lsj": ("shapes_train", False, True, 8),
    }
    options: list[object] = []
    for mapper, (name, panoptic, instances, classes) in data.items():
        test = f"('{name.replace('train', 'val')}',)" if mapper == "coco_instance_lsj" else "()"
        options += ["INPUT.DATASET_MAPPER_NAME", mapper, "DATASETS.TRAIN", f"('{name}',)", "DATASETS.TEST", test]
        options += ["MODEL.MASK_FORMER.TEST.PANOPTIC_ON", panoptic, "MODEL.MASK_FORMER.TEST.INSTANCE_ON", instances]
        options += ["MODEL.SEM_SEG_HEAD.NUM_CLASSES", classes, "MODEL.WEIGHTS", published_file]
        options += ["OUTPUT_DIR", tmp_path / mapper, "++"]
    text = run("train.py", "--config-file", CONFIG, *options, datasets=datasets, folder=tmp_path)
    before = convert(pickle.loads(published_file.read_bytes())["model"], "ours")
    for mapper, (*_, classes) in data.items():
        after = torch.load(tmp_path / mapper / "model_final.pth")["model"]
        assert after.keys() == before.keys()
        kept = [name for name in after if classes == 12 or "class_embed" not in name]
        # Two steps of AdamW move each weight, but not far from those of the file.
        moved = {name: (after[name] - before[name]).abs().max() for name in kept}
        assert moved["sem_seg_head.predictor.mask_embed.layers.0.weight"] > 0, mapper
        assert max(moved.values()) < 1e-2, mapper
        assert len(after["sem_seg_head.predictor.class_embed.bias"]) == classes + 1
    assert "Evaluation results for segm" in text


def test_evaluation_of_published_weights(
    datasets: Path, tmp_path: Path, published_file: Path, state: dict[str, Tensor]
) -> None:
    """Detectron2's evaluators see what ours see, of the weights of the file."""
    arguments = [
        "--eval-only",
        "--config-file",
        CONFIG,
        "MODEL.WEIGHTS",
        published_file,
        "OUTPUT_DIR",
        tmp_path / "out",
    ]
    run(
        "train.py",
        *arguments,
        "TEST.AUG.ENABLED",
        True,
        "TEST.AUG.MIN_SIZES",
        "(64,)",
        datasets=datasets,
        folder=tmp_path,
    )
    found = json.loads((tmp_path / "out" / "scores.json").read_text())
    cfg = configuration()
    cfg.OUTPUT_DIR, cfg.TEST.REPORT = str(tmp_path / "ours"), False
    register_all(str(datasets))
    model = build_model(cfg)
    model.load_state_dict(state)
    expected = Trainer.test(cfg, model)
    register_all()
    assert expected["sem_seg"]["pACC"] > 0 and found["sem_seg_TTA"]["pACC"] > 0
    for task, metric in (("sem_seg", "mIoU"), ("sem_seg", "pACC"), ("panoptic_seg", "PQ"), ("segm", "AP")):
        assert found[task][metric] == pytest.approx(expected[task][metric], abs=1e-6), (task, metric)


def test_predictor_and_visualizer(
    datasets: Path, tmp_path: Path, published_file: Path, state: dict[str, Tensor]
) -> None:
    """DefaultPredictor's scores are those of the weights in the file; what is drawn differs from the image."""
    picture = datasets / "quickstart/images/val/004.png"
    run("predict.py", CONFIG, published_file, picture, tmp_path, datasets=datasets, folder=tmp_path)
    cfg = configuration()
    register_all(str(datasets))
    model = build_model(cfg).eval()
    register_all()
    model.load_state_dict(state)
    with torch.no_grad():
        expected = model([Mapper(cfg, is_train=False)({"file_name": str(picture)})])[0]["sem_seg"]
    found = torch.load(tmp_path / "sem_seg.pth")
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
    image = cv2.imread(str(picture))
    for name in ("panoptic", "instances", "semantic"):
        drawn = cv2.imread(str(tmp_path / f"{name}.png"))
        assert abs(drawn.shape[0] - 1.2 * image.shape[0]) <= 2, name
        enlarged = cv2.resize(image, drawn.shape[1::-1])
        # Pixel by pixel: Detectron2 draws in colours of chance, whose mean may be the image's.
        assert np.abs(drawn.astype(int) - enlarged).mean() > 0.5, name
