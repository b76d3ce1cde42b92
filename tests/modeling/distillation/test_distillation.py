"""A student beside its teacher: what flows where, what is saved, and the losses against plain formulas."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Instances
from small_models import configuration
from torch import Tensor, nn

from mask2former.config import ConfigError
from mask2former.modeling.distillation.losses import class_loss, feature_loss, mask_loss, weighted_mean

PARTS = {"loss_distill_features", "loss_distill_classes", "loss_distill_masks"}


def test_class_loss_is_the_divergence_of_softened_distributions() -> None:
    ours, theirs, t = [0.3, -1.2, 2.0], [1.5, 0.2, -0.4], 3.0
    p, q = ([math.exp(x / t) / sum(math.exp(y / t) for y in row) for x in row] for row in (theirs, ours))
    expected = t * t * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert class_loss(torch.tensor([ours]), torch.tensor([theirs]), t).item() == pytest.approx(expected, rel=1e-5)


def test_mask_loss_is_the_divergence_at_each_point() -> None:
    ours, theirs = torch.randn(4, 9) * 3, torch.randn(4, 9) * 3
    expected = torch.zeros(4)
    for row in range(4):
        for x, y in zip(ours[row].tolist(), theirs[row].tolist(), strict=True):
            p, q = 1 / (1 + math.exp(-y)), 1 / (1 + math.exp(-x))
            expected[row] += (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))) / 9
    torch.testing.assert_close(mask_loss(ours, theirs), expected)
    far = torch.tensor([[200.0, -200.0]])  # no overflow
    assert mask_loss(far, -far).isfinite() and not mask_loss(far, far).any()


def test_feature_loss_is_one_minus_the_correlation() -> None:
    ours, theirs = torch.randn(2, 3, 5, 6), torch.randn(2, 3, 5, 6)
    rows = [(ours[:, c].flatten(), theirs[:, c].flatten()) for c in range(3)]
    expected = sum(1 - torch.corrcoef(torch.stack(pair))[0, 1] for pair in rows) / 3
    torch.testing.assert_close(feature_loss(ours, theirs), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(feature_loss(7 * ours - 3, theirs), expected, rtol=1e-4, atol=1e-5)


def test_a_mean_of_nothing_is_nothing() -> None:
    assert weighted_mean(torch.ones(3), torch.zeros(3)) == 0 and weighted_mean(torch.ones(0), torch.zeros(0)) == 0


def teacher_files(folder: Path, cfg: CfgNode, seed: int = 1) -> list[str]:
    """Write a teacher's configuration and random weights; return the student's options that name them."""
    torch.manual_seed(seed)
    model = build_model(cfg)
    for name, parameter in model.named_parameters():  # confident and of different masks, as a trained one
        if "query_feat" in name or "query_embed" in name:
            nn.init.normal_(parameter, std=3)
        if "class_embed.weight" in name or name.endswith("mask_embed.layers.2.weight"):
            nn.init.normal_(parameter, std=1)
    torch.save({"model": model.state_dict()}, folder / "teacher.pth")
    (folder / "teacher.yaml").write_text(cfg.dump())
    names = ["MODEL.DISTILLATION.TEACHER_CONFIG", str(folder / "teacher.yaml")]
    return [*names, "MODEL.DISTILLATION.TEACHER_WEIGHTS", str(folder / "teacher.pth")]


def student_configuration(options: list[str], **changes: Any) -> CfgNode:
    cfg = configuration()
    cfg.MODEL.DISTILLATION.ENABLED = True
    cfg.merge_from_list([*options, *(word for pair in changes.items() for word in pair)])
    return cfg


def larger() -> CfgNode:
    """Another backbone's depth, other channels and more queries than the small model's."""
    cfg = configuration()
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 50, 256
    cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM = cfg.MODEL.SEM_SEG_HEAD.MASK_DIM = cfg.MODEL.MASK_FORMER.HIDDEN_DIM = 64
    cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES = 20
    cfg.INPUT.FORMAT = "RGB"
    return cfg


def batch(seed: int = 0) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(seed)
    items = []
    for count, (height, width) in ((2, (64, 96)), (1, (60, 80))):
        target = Instances((height, width))
        target.gt_masks = torch.zeros(count, height, width, dtype=torch.bool)
        target.gt_masks[:, 10:40, 20:60] = True
        target.gt_classes = torch.randint(7, (count,), generator=generator)
        image = torch.randint(256, (3, height, width), dtype=torch.uint8, generator=generator)
        items.append({"image": image, "instances": target})
    return items


def test_gradients_reach_the_student_alone(tmp_path: Path) -> None:
    student = build_model(student_configuration(teacher_files(tmp_path, larger()))).train()
    before = [name for name, _ in student.named_parameters()]
    losses = student(batch())
    assert set(losses) >= PARTS | {"loss_ce", "loss_mask_0"}
    assert all(losses[name].isfinite() and losses[name] > 0 for name in PARTS)
    sum(losses[name] for name in PARTS).backward()
    teacher = student.distillation.teacher._model
    assert not teacher.training and all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    moved = {name for name, p in student.named_parameters() if p.grad is not None and p.grad.any()}
    for part in ("backbone.res3", "class_embed", "mask_embed", "distillation.projections.res5"):
        assert any(part in name for name in moved), part
    # The teacher is nowhere among what is counted, saved, moved or exchanged between processes.
    assert [name for name, _ in student.named_parameters()] == before
    extra = {name for name in student.state_dict() if name.startswith("distillation.")}
    assert extra and all(name.startswith("distillation.projections.") for name in extra)
    assert copy.deepcopy(student).distillation.teacher._model is teacher


def test_equal_student_and_teacher_have_nothing_to_learn(tmp_path: Path) -> None:
    """Their features, classes and masks are equal, and each query is matched with itself."""
    options = teacher_files(tmp_path, configuration())
    student = build_model(student_configuration(options)).train()
    weights = torch.load(tmp_path / "teacher.pth")["model"]
    student.load_state_dict({**student.state_dict(), **weights})
    losses = student.eval().distillation  # frozen batch statistics, as of the teacher
    student.training = True  # the network keeps its features
    prediction, given = student.predict_raw(batch())
    student.training = False
    found = losses(prediction, batch(), given.padded_size)
    assert set(found) == PARTS
    assert all(abs(value) < 1e-5 for value in found.values()), found
    queries, chosen = losses._match(prediction, losses.teacher(batch(), torch.device("cpu"))[0])[0]
    assert torch.equal(queries, chosen) and len(queries) == 12


def test_parts_and_weights(tmp_path: Path) -> None:
    options = teacher_files(tmp_path, larger())
    values = {}
    for name, change in {
        "all": {},
        "double": {"MODEL.DISTILLATION.CLASSES": 4.0, "MODEL.DISTILLATION.MASKS": 10.0},
        "features": {"MODEL.DISTILLATION.CLASSES": 0.0, "MODEL.DISTILLATION.MASKS": 0.0},
        "masks": {"MODEL.DISTILLATION.CLASSES": 0.0, "MODEL.DISTILLATION.FEATURES": 0.0},
    }.items():
        torch.manual_seed(4)
        student = build_model(student_configuration(options, **change)).train()
        torch.manual_seed(5)
        values[name] = {key: value for key, value in student(batch()).items() if key in PARTS}
        assert bool(len(student.distillation.projections)) == (name != "masks")
    assert set(values["features"]) == {"loss_distill_features"} and set(values["masks"]) == {"loss_distill_masks"}
    for part in ("classes", "masks"):
        torch.testing.assert_close(values["double"][f"loss_distill_{part}"], 2 * values["all"][f"loss_distill_{part}"])


def test_it_learns_what_the_teacher_sees(tmp_path: Path) -> None:
    student = build_model(student_configuration(teacher_files(tmp_path, larger()))).train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3)
    seen = []
    for step in range(25):
        torch.manual_seed(step)
        losses = student(batch())
        seen.append({name: losses[name].item() for name in PARTS})
        optimizer.zero_grad()
        sum(losses[name] for name in PARTS).backward()
        optimizer.step()
    for name in PARTS:
        assert sum(one[name] for one in seen[-3:]) < 0.8 * sum(one[name] for one in seen[:3]), name


def test_the_teacher_changes_no_random_number(tmp_path: Path) -> None:
    """So that a student with a teacher begins, and goes on after an interruption, as the same one without."""
    options = teacher_files(tmp_path, larger())
    torch.manual_seed(7)
    plain = build_model(configuration())
    torch.manual_seed(7)
    student = build_model(student_configuration(options)).train()
    assert all(torch.equal(value, student.state_dict()[name]) for name, value in plain.state_dict().items())
    draws = []
    for _ in range(2):  # the first call builds the teacher
        torch.manual_seed(8)
        student(batch())
        draws.append(torch.rand(3))
    assert torch.equal(*draws)


def test_a_student_inherits_what_fits_once(tmp_path: Path) -> None:
    cfg = configuration()
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 50, 256
    cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES = 20
    options = teacher_files(tmp_path, cfg)
    theirs = torch.load(tmp_path / "teacher.pth")["model"]
    student = build_model(student_configuration(options, **{"MODEL.DISTILLATION.INHERIT": True})).train()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    student(batch())
    after = student.state_dict()
    inherited = {name for name, value in after.items() if not torch.equal(value, before[name])} - {"distillation.begun"}
    statistics = {name for name in inherited if "running_" in name or "num_batches" in name}
    fitting = {name for name, value in theirs.items() if name in after and value.shape == after[name].shape}
    wanted = {name for name in fitting if not name.startswith(("backbone.", "criterion."))}
    assert inherited - statistics and all(torch.equal(after[name], theirs[name]) for name in inherited - statistics)
    assert all(torch.equal(after[name], theirs[name]) for name in wanted - statistics)
    assert not any("query_feat" in name or "backbone" in name for name in inherited - statistics)  # 12 queries, not 20
    # Trained further and read again, it stays what it has become.
    with torch.no_grad():
        student.sem_seg_head.predictor.class_embed.weight.add_(1)
    copied = build_model(student_configuration(options, **{"MODEL.DISTILLATION.INHERIT": True})).train()
    copied.load_state_dict(student.state_dict())
    copied(batch())
    weight = student.sem_seg_head.predictor.class_embed.weight
    assert torch.equal(copied.sem_seg_head.predictor.class_embed.weight, weight)
    # So does one that was trained without inheriting, and goes on with it.
    earlier = {key: value for key, value in student.state_dict().items() if key != "distillation.begun"}
    resumed = build_model(student_configuration(options, **{"MODEL.DISTILLATION.INHERIT": True})).train()
    resumed.load_state_dict(earlier, strict=False)
    resumed(batch())
    assert torch.equal(resumed.sem_seg_head.predictor.class_embed.weight, weight)
    evaluated = build_model(student_configuration(options, **{"MODEL.DISTILLATION.INHERIT": True})).eval()
    evaluated(batch())
    assert not evaluated.distillation.begun


def test_a_teacher_of_which_nothing_fits_is_refused(tmp_path: Path) -> None:
    student = build_model(
        student_configuration(teacher_files(tmp_path, larger()), **{"MODEL.DISTILLATION.INHERIT": True})
    )
    student.train().distillation.teacher.state_dict = lambda device: {"backbone.stem.conv1.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match="INHERIT"):
        student(batch())


def test_a_teacher_of_timm(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    cfg = configuration()
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.TIMM.NAME, cfg.MODEL.TIMM.PRETRAINED = "TimmBackbone", "resnet10t", False
    student = build_model(student_configuration(teacher_files(tmp_path, cfg))).train()
    assert all(student(batch())[name] > 0 for name in PARTS)
    backwards = student_configuration(teacher_files(tmp_path, configuration()))
    backwards.MODEL.BACKBONE.NAME, backwards.MODEL.TIMM = "TimmBackbone", cfg.MODEL.TIMM
    assert all(build_model(backwards).train()(batch())[name] > 0 for name in PARTS)


def test_the_teacher_sees_its_own_channel_order(tmp_path: Path) -> None:
    student = build_model(student_configuration(teacher_files(tmp_path, larger()))).train()  # BGR; the teacher is RGB
    images = batch()
    answer, _ = student.distillation.teacher(images, torch.device("cpu"))
    turned = [{"image": one["image"].flip(0)} for one in images]
    with torch.no_grad():
        expected: Tensor = student.distillation.teacher._model.predict_raw(turned)[0].class_logits
    torch.testing.assert_close(answer.class_logits, expected)


def test_evaluation_needs_no_weights_of_the_teacher(tmp_path: Path) -> None:
    options = teacher_files(tmp_path, larger())
    (tmp_path / "teacher.pth").unlink()
    student = build_model(student_configuration(options)).eval()
    assert student(batch()) and student.distillation.teacher._model is None


def test_wrong_teachers_are_refused(tmp_path: Path) -> None:
    options = teacher_files(tmp_path, larger())
    with pytest.raises(ConfigError, match=r"nothing\.yaml"):
        build_model(student_configuration([options[0], str(tmp_path / "nothing.yaml"), *options[2:]]))
    with pytest.raises(ValueError, match="TEACHER_WEIGHTS"):
        build_model(student_configuration(options[:2]))
    with pytest.raises(ValueError, match="TEMPERATURE"):
        build_model(student_configuration(options, **{"MODEL.DISTILLATION.TEMPERATURE": 0.0}))
    with pytest.raises(ValueError, match="7 classes, but the student has 5"):
        build_model(student_configuration(options, **{"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 5}))
    with pytest.raises(ValueError, match="MASK_ENCODER"):
        build_model(student_configuration(options, **{"MODEL.MASK_ENCODER.ENABLED": True}))
    torch.save({"model": build_model(configuration()).state_dict()}, tmp_path / "teacher.pth")
    with pytest.raises(ValueError, match="not the weights of the teacher's"):
        build_model(student_configuration(options)).train()(batch())
