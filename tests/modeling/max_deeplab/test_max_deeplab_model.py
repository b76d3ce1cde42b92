"""The whole MaX-DeepLab, small: sizes, predictions, ablations, gradients, rates, bad input."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from small_models import max_deeplab
from torch import Tensor, nn

from mask2former.engine.optimizer import build_optimizer, parameter_groups
from mask2former.modeling.activation_checkpoint import checkpoint_activations
from mask2former.modeling.backbone.axial_block import ResidualBlock
from mask2former.modeling.max_deeplab import MaXDeepLab
from mask2former.structures import FactoredMasks, MaskPrediction

STACKED = {"PRETRAINED_ROUNDS": 1, "NEW_ROUNDS": 1, "DECODER_BLOCKS": 2, "DUAL_PATH_STAGES": [4, 5]}


def network(cfg: CfgNode) -> MaXDeepLab:
    torch.manual_seed(0)
    return build_model(cfg)


def awake(model: nn.Module) -> nn.Module:
    """Let the branches that begin with a scale of 0 take part."""
    for module in model.modules():
        if isinstance(module, nn.SyncBatchNorm) and not module.weight.any():
            nn.init.ones_(module.weight)
    return model


def summed(model: MaXDeepLab, prediction: MaskPrediction) -> Tensor:
    (total,) = model.criterion(prediction, None).values()
    return total


@pytest.mark.parametrize("keys", [{}, {"SEMANTIC_DECODER": True}, STACKED])
def test_training_predicts_and_every_parameter_learns(keys: dict[str, Any]) -> None:
    model = awake(network(max_deeplab(**keys))).train()
    prediction = model.network(torch.randn(2, 3, 49, 33))
    assert not prediction.aux and prediction.class_logits.shape == (2, 12, 8)
    masks = prediction.masks
    assert isinstance(masks, FactoredMasks) and masks.activation == "softmax" and masks.align_corners
    assert masks.mask_embed.shape == (2, 12, 8) and masks.mask_features.shape == (2, 8, 1, 13, 9)
    torch.testing.assert_close(masks.mask_features.norm(dim=1), torch.ones(2, 1, 13, 9))
    assert prediction.extras["semantic_logits"].shape == (2, 8, 13, 9)
    summed(model, prediction).backward()
    assert not {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}


@torch.no_grad()
def test_a_new_network_says_no_object() -> None:
    model = network(max_deeplab()).train()
    probabilities = model.network(torch.randn(2, 3, 33, 33)).class_logits.softmax(-1)
    assert probabilities[..., -1].mean() == pytest.approx(0.9, abs=0.02)


def test_a_new_block_is_its_shortcut() -> None:
    """Every branch ends in a norm of scale 0."""
    x = torch.randn(1, 8, 5, 5)
    for kind in ("basic", "bottleneck", "axial"):
        block = ResidualBlock(8, 8, kind=kind, num_heads=1)  # type: ignore[arg-type]
        torch.testing.assert_close(block(x), x.relu())
        strided = ResidualBlock(8, 8, kind=kind, stride=2, num_heads=1)  # type: ignore[arg-type]
        torch.testing.assert_close(strided(x), x.relu()[..., ::2, ::2])


@torch.no_grad()
def test_inference_lacks_the_semantic_branch_alone() -> None:
    model = awake(network(max_deeplab())).eval()
    images = torch.randn(1, 3, 33, 49)
    alone = model.network(images)
    assert "semantic_logits" not in alone.extras
    model.sem_seg_head.training = True
    full = model.network(images)
    assert "semantic_logits" in full.extras
    torch.testing.assert_close(full.class_logits, alone.class_logits)
    torch.testing.assert_close(full.masks.logits(), alone.masks.logits())


SWITCHES = ("P2P", "M2P", "M2M", "P2M")


@pytest.mark.parametrize("attentions", [*combinations(SWITCHES, 3), ("P2P",), ()])
def test_ablations_train(attentions: tuple[str, ...]) -> None:
    whole, model = (awake(network(max_deeplab(ATTENTIONS=list(names)))).train() for names in (SWITCHES, attentions))
    images = torch.randn(2, 3, 33, 33)
    prediction = model.network(images)
    summed(model, prediction).backward()
    assert not {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
    names = {name for name, _ in model.named_parameters()}
    assert any(".attention." in name for name in names) == ("P2P" in attentions)
    assert any(".pixel_attention." in name for name in names) == ("P2M" in attentions)
    assert any(".memory_attention." in name for name in names) == bool({"M2P", "M2M"} & set(attentions))
    difference = prediction.masks.logits() - whole.network(images).masks.logits()
    assert difference.abs().max() > 1e-4


def test_slots_see_the_image_by_their_attention_to_pixels_alone() -> None:
    images = torch.randn(2, 3, 33, 33).unbind()
    for attentions, differ in ((SWITCHES, True), (("P2P", "M2M", "P2M"), False)):
        model = awake(network(max_deeplab(ATTENTIONS=list(attentions)))).eval()
        with torch.no_grad():
            first, second = (model.network(image[None]).class_logits for image in images)
        assert torch.equal(first, second) != differ


@pytest.mark.parametrize("keys", [{}, STACKED])
def test_recomputation_changes_nothing(keys: dict[str, Any]) -> None:
    models = [awake(network(max_deeplab(**keys))).train() for _ in range(2)]
    checkpoint_activations(["backbone"], {"backbone": models[1].backbone})
    images = torch.randn(2, 3, 33, 33)
    losses = []
    for model in models:
        torch.manual_seed(1)  # drop path
        losses.append(summed(model, model.network(images)))
        losses[-1].backward()
    torch.testing.assert_close(losses[0], losses[1])
    for (name, plain), recomputed in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        if plain.requires_grad:
            torch.testing.assert_close(plain.grad, recomputed.grad, msg=name)
    for (name, plain), recomputed in zip(models[0].named_buffers(), models[1].buffers(), strict=True):
        torch.testing.assert_close(plain, recomputed, msg=name)


def test_recomputation_by_the_configuration() -> None:
    cfg = max_deeplab()
    cfg.MODEL.CHECKPOINT = ["backbone"]
    assert "forward" in vars(network(cfg).backbone.stage5.block1_transformer)
    cfg.MODEL.CHECKPOINT = ["pixel_decoder"]
    with pytest.raises(ValueError, match="names 'pixel_decoder'; choose from backbone, transformer_decoder"):
        network(cfg)


@torch.no_grad()
@pytest.mark.parametrize("size", [(33, 50), (50, 33), (17, 17), (1, 40)])
def test_any_size_and_orientation_is_answered(size: tuple[int, int]) -> None:
    model = network(max_deeplab(**STACKED)).eval()
    image = torch.rand(3, *size) * 255
    padded = model.preprocess([{"image": image}]).padded_size
    assert all((side - 1) % 16 == 0 and own <= side < own + 16 for side, own in zip(padded, size, strict=True))
    result = model([{"image": image, "height": 2 * size[0], "width": 2 * size[1]}])[0]
    assert result["sem_seg"].shape == (7, 2 * size[0], 2 * size[1])


@torch.no_grad()
def test_the_published_canvas_is_a_divisibility() -> None:
    cfg = max_deeplab()
    cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY = 64
    model = network(cfg)
    assert model.preprocess([{"image": torch.zeros(3, 65, 20)}]).padded_size == (65, 65)


def test_numbers_of_slots_and_classes() -> None:
    model = network(max_deeplab())
    assert (model.num_queries, model.num_classes) == (12, 7)
    assert model.backbone.memory_feature.shape == (1, 12, 16)


def test_the_pretrained_part_alone_learns_slowly() -> None:
    cfg = max_deeplab(**STACKED)
    cfg.SOLVER.BASE_LR, cfg.SOLVER.BACKBONE_MULTIPLIER, cfg.SOLVER.OPTIMIZER = 1.0, 0.1, "ADAM"
    cfg.SOLVER.ADAM_EPS = 1e-7
    model = network(cfg)
    rates = {id(p): group["lr"] for group in parameter_groups(cfg, model) for p in group["params"]}
    seen = set()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            module = name.split(".")[1]
            fast = not name.startswith("backbone.") or "_transformer" in name or "_extra" in name
            fast = fast or module == "memory_feature"
            assert rates[id(parameter)] == (1.0 if fast else 0.1), name
            seen.add((module.split("_")[0], fast))
    assert {("stem", False), ("stage5", False), ("stage5", True), ("decoder", True), ("decoder", False)} <= seen
    optimizer = build_optimizer(cfg, model)
    assert type(optimizer) is torch.optim.Adam
    assert optimizer.defaults["eps"] == 1e-7 and optimizer.defaults["betas"] == (0.9, 0.999)


def test_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="takes single images; found clips of 2 frames"):
        network(max_deeplab()).network(torch.randn(2, 3, 17, 17), 2)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MAX_DEEPLAB.ATTENTIONS", ["P2P", "P2Q"], r"ATTENTIONS names \['P2Q'\]; choose from P2P, M2P, M2M, P2M"),
        ("MAX_DEEPLAB.KEY_CHANNELS", 6, "6 key channels among 4 heads"),
        ("MAX_DEEPLAB.DUAL_PATH_STAGES", [5, 9], r"DUAL_PATH_STAGES names \[9\]; the stages are 1 to 5"),
        ("MAX_DEEPLAB.NEW_ROUNDS", -1, "NEW_ROUNDS -1, which may not be negative"),
        ("MAX_DEEPLAB.DECODER_BLOCKS", 0, "DECODER_BLOCKS 0, which has to be at least 1"),
        ("AXIAL_RESNET.DEPTHS", [1, 1, 1], "need 5 numbers each"),
        ("AXIAL_RESNET.CONVOLUTION", "wide", "is 'wide'; choose basic or bottleneck"),
        ("AXIAL_RESNET.AXIAL_STAGES", [3], "only stages 4 and 5"),
        ("AXIAL_RESNET.STEM_CHANNELS", [], "STEM_CHANNELS is empty"),
        ("AXIAL_RESNET.DROP_PATH_SCHEDULE", "cosine", "choose linear or constant"),
        ("MASK_ENCODER.ENABLED", True, "where MaX-DeepLab's memory does not see it"),
        ("BACKBONE.NAME", "D2AxialResNet", "needs a backbone with a memory"),
    ],
)
def test_faults_of_the_configuration(key: str, value: Any, message: str) -> None:
    cfg = max_deeplab()
    cfg.merge_from_list([f"MODEL.{key}", value])
    with pytest.raises(ValueError, match=message):
        network(cfg)
