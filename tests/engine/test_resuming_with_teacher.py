"""A resumed training with a teacher and a mask encoder equals the uninterrupted one, bit by bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from detectron2.modeling import build_model

from mask2former.config import load_config
from mask2former.data import register_all
from mask2former.engine.trainer import Trainer

CONFIG = Path(__file__).parents[2] / "configs" / "quickstart" / "panoptic.yaml"


def test_resumed_equals_uninterrupted(datasets: Path, tmp_path: Path, small_network: list[str]) -> None:
    register_all(str(datasets))
    fixed = ["SEED", "5", "DATASETS.TEST", "()", "SOLVER.MAX_ITER", "4", "SOLVER.CHECKPOINT_PERIOD", "2"]
    guided = ["MODEL.MASK_ENCODER.ENABLED", "True"]
    teacher = load_config(str(CONFIG), [*small_network, *guided])
    (tmp_path / "teacher.yaml").write_text(teacher.dump())
    torch.save({"model": build_model(teacher).state_dict()}, tmp_path / "teacher.pth")
    node = "MODEL.DISTILLATION."
    files = [node + "TEACHER_CONFIG", tmp_path / "teacher.yaml", node + "TEACHER_WEIGHTS", tmp_path / "teacher.pth"]
    options = [*small_network, *fixed, *guided, node + "ENABLED", "True", *map(str, files)]

    def train(folder: str, last: int | None = None) -> tuple[Any, Trainer]:
        torch.manual_seed(1)  # of the first weights
        trainer = Trainer(load_config(str(CONFIG), [*options, "OUTPUT_DIR", str(tmp_path / folder)]))
        trainer.resume_or_load(resume=True)
        trainer.max_iter = last or trainer.max_iter
        trainer.train()
        return trainer.model.state_dict(), trainer

    expected, whole = train("whole")
    train("parts", 2)
    found, resumed = train("parts")
    assert resumed.start_iter == 2 and found.keys() == expected.keys()
    assert not [name for name, value in expected.items() if not torch.equal(found[name], value)]
    saved = torch.load(tmp_path / "parts" / "model_final.pth", weights_only=False)["model"]
    assert not any("teacher" in name for name in saved)
    assert any(name.startswith("distillation.projections") for name in saved)
    assert any(name.startswith("mask_encoder") for name in saved)
    learning = sum(p.numel() for group in whole.optimizer.param_groups for p in group["params"])
    assert learning == sum(p.numel() for p in whole.model.parameters() if p.requires_grad)
    assert len((tmp_path / "whole" / "metrics.json").read_text().split("loss_distill_masks")) > 1
