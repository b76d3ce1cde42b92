"""EoMT against Hugging Face's, with the same random weights; what Hugging Face's cannot do, against slow code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor

from mask2former import add_maskformer2_config
from mask2former.checkpoint.formats import convert, to_ours
from mask2former.modeling.eomt import EoMT
from mask2former.modeling.eomt.annealing import MaskAnnealing

transformers = pytest.importorskip("transformers")

SIZE = {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "image_size": 64, "patch_size": 16}
SIZE |= {"num_blocks": 2, "num_queries": 6, "num_labels": 5, "train_num_points": 2000}


def configuration(dinov3: bool = False, **changes: Any) -> CfgNode:
    cfg = get_cfg()
    add_maskformer2_config(cfg)
    model, vit, former = cfg.MODEL, cfg.MODEL.VIT, cfg.MODEL.MASK_FORMER
    model.DEVICE, model.META_ARCHITECTURE, model.BACKBONE.NAME = "cpu", "EoMT", "PlainViT"
    model.PIXEL_MEAN, model.PIXEL_STD = [0.0] * 3, [1.0] * 3
    vit.IMAGE_SIZE, vit.EMBED_DIM, vit.DEPTH, vit.NUM_HEADS, vit.MLP_RATIO = 64, 48, 4, 4, 2.0
    if dinov3:
        vit.POSITIONS, vit.KEY_BIAS = "rotary", False
    model.EOMT.NUM_BLOCKS, model.SEM_SEG_HEAD.NUM_CLASSES = 2, 5
    former.NUM_OBJECT_QUERIES, former.SIZE_DIVISIBILITY, former.TRAIN_NUM_POINTS = 6, 16, 2000
    former.CLASS_WEIGHT, former.MASK_WEIGHT, former.DICE_WEIGHT = 2.0, 5.0, 5.0
    for key, value in changes.items():
        cfg.merge_from_list([key.replace("__", "."), value])
    return cfg


def theirs(dinov3: bool, probability: float) -> Any:
    torch.manual_seed(0)
    if dinov3:
        config = transformers.EomtDinov3Config(intermediate_size=96, **SIZE)
        model = transformers.EomtDinov3ForUniversalSegmentation(config)
    else:
        model = transformers.EomtForUniversalSegmentation(transformers.EomtConfig(mlp_ratio=2, **SIZE))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.attn_mask_probs.fill_(probability)
    return model.eval()


def ours(reference: Any, dinov3: bool, **changes: Any) -> EoMT:
    model = build_model(configuration(dinov3, **changes)).eval()
    name, weights = to_ours(reference.state_dict())
    assert name == "EoMT, Hugging Face"
    assert model.load_state_dict(weights) is not None
    return model


@pytest.mark.parametrize("dinov3", [False, True])
@pytest.mark.parametrize("probability", [0.0, 1.0])
@torch.no_grad()
def test_logits_equal_hugging_face(dinov3: bool, probability: float) -> None:
    reference = theirs(dinov3, probability)
    model = ours(reference, dinov3)
    images = torch.randn(2, 3, 64, 64)
    expected, found = reference(images), model.network(images)
    assert len(found.aux) == (2 if probability else 0)
    torch.testing.assert_close(found.class_logits, expected.class_queries_logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.masks.logits()[:, :, 0], expected.masks_queries_logits, atol=1e-4, rtol=1e-4)


def batch() -> tuple[list[dict[str, Any]], list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(1)
    inputs, masks, classes = [], [], []
    for count in (2, 3):
        corners = torch.randint(0, 32, (count, 2), generator=generator)
        mask = torch.zeros(count, 64, 64, dtype=torch.bool)
        for one, (y, x) in zip(mask, corners.tolist(), strict=True):
            one[y : y + 30, x : x + 30] = True
        labels = torch.randint(0, 5, (count,), generator=generator)
        instances = Instances((64, 64), gt_masks=BitMasks(mask), gt_classes=labels)
        inputs.append({"image": torch.randn(3, 64, 64, generator=generator), "instances": instances})
        masks.append(mask.float())
        classes.append(labels)
    return inputs, masks, classes


@pytest.mark.parametrize("dinov3", [False, True])
def test_loss_equals_hugging_face(dinov3: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the same points: all pixels' centres at a quarter of the size, for matching and losses."""
    from mask2former.modeling.losses import pixel_losses

    y, x = torch.meshgrid(*[(torch.arange(16) + 0.5) / 16] * 2, indexing="ij")
    grid = torch.stack([x, y], -1).view(1, -1, 2)
    changes = {"MODEL__MASK_FORMER__TRAIN_NUM_POINTS": 256}
    reference = theirs(dinov3, 1.0)
    model = ours(reference, dinov3, **changes)
    monkeypatch.setattr(torch, "rand", lambda *size, **_: grid.expand(*size) if len(size) == 3 else grid[0])
    monkeypatch.setattr(pixel_losses, "uncertain_points", lambda logits, *_, **__: grid.expand(len(logits), -1, -1))
    criterion = reference.criterion
    criterion.num_points = reference.criterion.matcher.num_points = 256
    monkeypatch.setattr(criterion, "sample_points_using_uncertainty", lambda x, *_: grid.expand(len(x), -1, -1))
    inputs, masks, classes = batch()
    reference.eval()  # positions are not scaled at random; all predictions are supervised, for all are masked
    model.eval()
    images = torch.stack([one["image"] for one in inputs])
    expected = reference(images, mask_labels=masks, class_labels=classes)
    prediction, prepared = model.predict_raw(inputs)
    losses = model.criterion(prediction, model.prepare_targets(inputs, prepared))
    assert len(losses) == 9
    torch.testing.assert_close(sum(losses.values()), expected.loss.squeeze(), atol=1e-3, rtol=1e-4)
    expected.loss.backward()
    sum(losses.values()).backward()
    theirs_converted = to_ours({name: x.grad for name, x in reference.named_parameters()})[1]
    for name, parameter in model.named_parameters():
        scale = theirs_converted[name].abs().max()
        torch.testing.assert_close(
            parameter.grad, theirs_converted[name], atol=1e-4 * float(scale), rtol=1e-3, msg=name
        )


@pytest.mark.parametrize("dinov3", [False, True])
def test_weights_convert_back(dinov3: bool) -> None:
    reference = theirs(dinov3, 0.5)
    state = reference.state_dict()
    back = convert(state, "hf")
    assert set(back) == set(state)
    for name, value in state.items():
        torch.testing.assert_close(back[name], value)
    published = convert(state, "published")
    again = to_ours(published)
    assert again[0] == "EoMT, published"
    for name, value in to_ours(state)[1].items():
        torch.testing.assert_close(again[1][name], value)


def test_training_supervises_every_prediction_and_anneals_by_the_iteration() -> None:
    model = build_model(configuration(MODEL__EOMT__ANNEAL_START=[0, 100], MODEL__EOMT__ANNEAL_END=[100, 200])).train()
    inputs, *_ = batch()
    assert len(model(inputs)) == 9  # without Detectron2's events, the probabilities stay
    assert model.annealing.values() == (1.0, 1.0)
    with EventStorage(150):
        losses = model(inputs)
    assert {"loss_ce", "loss_ce_0", "loss_ce_1"} <= set(losses) and len(losses) == 9
    assert model.annealing.values() == pytest.approx((0.0, 0.5**0.9))
    assert model.state_dict()["annealing.probabilities"].tolist() == pytest.approx([0.0, 0.5**0.9])
    with EventStorage(10_000):
        model(inputs)
    assert not any(model.annealing.values())
    sum(model(inputs).values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_an_averaged_copy_reads_its_own_probabilities() -> None:
    model = build_model(configuration(MODEL__EOMT__ANNEAL_START=[0, 0], MODEL__EOMT__ANNEAL_END=[10, 10]))
    average = torch.optim.swa_utils.AveragedModel(model, use_buffers=True).eval()
    with EventStorage(10):
        model.train()(batch()[0])
    average.update_parameters(model)
    assert average.module.annealing.values() == model.annealing.values() == (0.0, 0.0)


@torch.no_grad()
def test_any_size_is_padded_and_answered() -> None:
    model = build_model(configuration(MODEL__MASK_FORMER__TEST__INSTANCE_ON=True)).eval()
    (result,) = model([{"image": torch.rand(3, 50, 90) * 255, "height": 100, "width": 180}])
    assert result["sem_seg"].shape == (5, 100, 180)
    assert result["instances"].pred_masks.shape[1:] == (100, 180)


def test_layers_nearer_to_the_image_learn_more_slowly() -> None:
    model = build_model(configuration(MODEL__VIT__LAYER_DECAY=0.5))
    scale = model.backbone.lr_scale
    assert [scale(f"blocks.{i}.norm1.weight") for i in range(4)] == [0.125, 0.25, 0.5, 1.0]
    assert scale("patch_embed.proj.weight") == scale("pos_embed") == 0.125 and scale("norm.weight") == 1.0
    model = build_model(configuration(MODEL__VIT__LAYER_DECAY=0.5, MODEL__VIT__FULL_RATE_BLOCKS=2))
    assert [model.backbone.lr_scale(f"blocks.{i}.norm1.weight") for i in range(4)] == [0.125, 0.25, 1.0, 1.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"MODEL__EOMT__NUM_BLOCKS": 5}, "NUM_BLOCKS is 5, but MODEL.VIT.DEPTH 4"),
        ({"MODEL__EOMT__NUM_BLOCKS": 0}, "NUM_BLOCKS is 0; queries need at least 1 block"),
        ({"MODEL__EOMT__NUM_BLOCKS": -1}, "NUM_BLOCKS is -1; queries need at least 1 block"),
        ({"MODEL__VIT__FINAL_NORM": False}, "FINAL_NORM is False; EoMT predicts from"),
        (
            {"MODEL__MASK_ENCODER__ENABLED": True},
            "MASK_ENCODER.ENABLED is True, but .* EoMT has no",
        ),
        (
            {"MODEL__DISTILLATION__ENABLED": True},
            "DISTILLATION.ENABLED is True, but .* EoMT has no",
        ),
        ({"MODEL__BACKBONE__NAME": "build_resnet_backbone"}, "needs MODEL.BACKBONE.NAME PlainViT"),
        ({"MODEL__VIT__PATCH_SIZE": 14, "MODEL__VIT__IMAGE_SIZE": 56}, "PATCH_SIZE 8, 16 or 32, found 14"),
        ({"MODEL__EOMT__ANNEAL_START": [1], "MODEL__EOMT__ANNEAL_END": [2]}, "each of the 2 blocks"),
        ({"MODEL__EOMT__ANNEAL_START": [1, 5], "MODEL__EOMT__ANNEAL_END": [2, 5]}, "every end after its start"),
        ({"MODEL__VIT__SHRINK_BLOCK": 1}, "SHRINK_BLOCK is 1; EoMT keeps all patches"),
        ({"MODEL__VIT__OUT_BLOCKS": [4]}, "the blocks of MODEL.VIT.DEPTH are 0 to 3"),
        ({"MODEL__VIT__IMAGE_SIZE": 70}, "multiple of MODEL.VIT.PATCH_SIZE"),
        ({"MODEL__VIT__POSITIONS": "sine"}, "choose one of table, rotary"),
        ({"MODEL__VIT__NUM_HEADS": 5}, "EMBED_DIM is 48; with MODEL.VIT.NUM_HEADS 5 .* multiple of 5"),
        ({"MODEL__VIT__NUM_HEADS": 0}, "NUM_HEADS 0 .* multiple of 1"),
        ({"MODEL__VIT__NUM_HEADS": 24, "MODEL__VIT__POSITIONS": "rotary"}, "POSITIONS rotary .* multiple of 96"),
    ],
)
def test_faults_of_the_configuration(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(configuration(**changes))


def test_annealing_follows_a_buffer_that_is_moved_and_filled_again() -> None:
    """A buffer that was moved counts its versions anew, so that the same number may stand for other values."""
    annealing = MaskAnnealing(2, (0, 1), (2, 3))
    for value, dtype in ((1.0, torch.float64), (0.0, torch.float32), (0.5, torch.float64)):
        annealing.to(dtype)
        with torch.no_grad():
            annealing.probabilities.copy_(torch.full((2,), value))
        assert annealing.values() == (value, value)
