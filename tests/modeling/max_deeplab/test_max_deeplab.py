"""The whole MaX-DeepLab, small: sizes, predictions, masks, gradients, rates, switches, other heads, bad input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_backbone, build_model
from small_models import configuration, max_deeplab
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.engine.optimizer import build_optimizer, parameter_groups
from mask2former.modeling.activation_checkpoint import checkpoint_activations
from mask2former.modeling.backbone.axial_blocks import AxialBlock
from mask2former.modeling.layers.dual_path import ATTENTIONS
from mask2former.modeling.max_deeplab import MaXDeepLab
from mask2former.structures import MaskPrediction


def network(cfg: CfgNode) -> MaXDeepLab:
    """Build a model whose branches take part: the scales that start at 0 are 1."""
    torch.manual_seed(0)
    model = build_model(cfg)
    for name, parameter in model.named_parameters():
        if "norm" in name and name.endswith("weight") and not parameter.any():
            nn.init.ones_(parameter)
    return model


def summed(model: MaXDeepLab, prediction: MaskPrediction) -> Tensor:
    (total,) = model.criterion(prediction, None).values()
    return total


@pytest.mark.parametrize("semantic_stage", [0, 2])
def test_every_parameter_learns(semantic_stage: int) -> None:
    model = network(max_deeplab("SEMANTIC_STAGE", semantic_stage)).train()
    prediction = model.network(torch.randn(2, 3, 65, 49))
    assert not prediction.aux and prediction.masks.size == (17, 13) and prediction.class_logits.shape == (2, 12, 8)
    embedding = prediction.extras["pixel_embedding"]
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2, 17, 13))
    coarse = (5, 4) if semantic_stage == 2 else (17, 13)
    assert prediction.extras["semantic_logits"].shape == (2, 8, *coarse)
    summed(model, prediction).backward()
    assert not {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
    fixed = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert fixed == {"sem_seg_head.mask_norm.bias"}


def test_masks_are_normalised_products() -> None:
    """Batch normalisation of the product itself, in training with its statistics and at inference."""
    model = network(max_deeplab()).train()
    head, products = model.sem_seg_head, {}
    head.mask_norm.register_forward_pre_hook(lambda _, inputs: products.update(f=inputs[0]))
    for training in (True, False):
        model.train(training)
        mean, var = head.mask_norm.running_mean.clone(), head.mask_norm.running_var.clone()
        masks = model.network(torch.randn(2, 3, 33, 33)).masks
        product = torch.einsum("bnd,bdthw->bnthw", products["f"], masks.features).double()
        expected = F.batch_norm(
            product[:, None], mean.double(), var.double(), head.mask_norm.weight.double(), None, training, 0.01, 1e-3
        )
        shift = (expected[:, 0] - masks.logits()).detach()
        torch.testing.assert_close(shift, shift.mean().expand_as(shift), rtol=0, atol=1e-5)
        torch.testing.assert_close(
            head.mask_norm.running_var, var.float(), rtol=1e-4, atol=1e-6
        ) if not training else None
    assert masks.activation == "softmax" and masks.align_corners


@torch.no_grad()
def test_a_new_network_says_no_object() -> None:
    model = network(max_deeplab()).train()
    probabilities = model.network(torch.randn(2, 3, 33, 33)).class_logits.softmax(-1)
    assert probabilities[..., -1].mean() == pytest.approx(0.9, abs=0.02)


def test_start_values() -> None:
    torch.manual_seed(0)
    model = build_model(max_deeplab("MEMORY_CHANNELS", 200))
    assert model.backbone.memory.std().item() == pytest.approx(0.88, abs=0.03)
    assert model.sem_seg_head.mask_norm.weight.item() == pytest.approx(0.1)
    weight = model.backbone.stages["stage3"].blocks[0].conv2.conv.weight  # He's deviation is that after the cut
    assert weight.std().item() == pytest.approx((2 / weight[0].numel()) ** 0.5, rel=0.15)
    for name, module in model.backbone.named_modules():
        if isinstance(module, AxialBlock):
            last = module.conv2 if module.kind == "basic" else module.conv3
            assert not last.norm.weight.any(), name


def test_recomputation_changes_nothing() -> None:
    models = [network(max_deeplab()).train() for _ in range(2)]
    checkpoint_activations(["backbone"], {"backbone": models[1].backbone})
    images, losses = torch.randn(2, 3, 33, 33), []
    for model in models:
        torch.manual_seed(1)  # the semantic branch has dropout
        losses.append(summed(model, model.network(images)))
        losses[-1].backward()
    torch.testing.assert_close(losses[0], losses[1])
    for (name, plain), recomputed in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        if plain.requires_grad:
            torch.testing.assert_close(plain.grad, recomputed.grad, msg=name)
    for (name, plain), recomputed in zip(models[0].named_buffers(), models[1].buffers(), strict=True):
        torch.testing.assert_close(plain, recomputed, msg=name)


@torch.no_grad()
@pytest.mark.parametrize("dropped", [*[(name,) for name in ATTENTIONS], ("M2P", "M2M"), ATTENTIONS])
def test_attentions_are_switched_off(dropped: tuple[str, ...]) -> None:
    """What is left depends on the memory, or on pixels, as the remaining attentions say."""
    kept = [name for name in ATTENTIONS if name not in dropped]
    model = network(max_deeplab("ATTENTIONS", kept)).eval()
    kinds = {block.kind for block in model.backbone.modules() if isinstance(block, AxialBlock)}
    assert ("axial" in kinds) == ("P2P" in kept)
    images = torch.randn(1, 3, 33, 33)
    before = model.backbone(images)
    changed = model.backbone(images + torch.randn_like(images))
    assert torch.equal(before["memory"], changed["memory"]) == ("M2P" not in kept)
    model.backbone.memory[0] += 1
    after = model.backbone(images)
    assert torch.equal(before["pixels"], after["pixels"]) == ("P2M" not in kept)
    others = torch.equal(before["memory"][..., 1:], after["memory"][..., 1:])
    assert others == ("M2M" not in kept and not {"M2P", "P2M"} <= set(kept))  # or by way of the pixels


def test_learning_rates_are_the_published_ones() -> None:
    cfg = max_deeplab()
    cfg.SOLVER.BASE_LR, cfg.SOLVER.BACKBONE_MULTIPLIER, cfg.SOLVER.ADAM_EPS = 1.0, 1.0, 1e-7
    model = network(cfg)
    rates = {id(p): group["lr"] for group in parameter_groups(cfg, model) for p in group["params"]}
    new = {name for name, p in model.named_parameters() if p.requires_grad and rates[id(p)] == 1.0}
    assert set(rates.values()) == {0.1, 1.0}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            fresh = "dual_paths" in name or "_extra" in name or name == "backbone.memory" or "sem_seg_head" in name
            assert (name in new) == fresh, name
    assert build_optimizer(cfg, model).defaults["eps"] == 1e-7


@torch.no_grad()
@pytest.mark.parametrize("size", [(33, 97), (97, 33), (50, 70), (1, 40)])
def test_any_size_and_orientation_is_answered(size: tuple[int, int]) -> None:
    cfg = max_deeplab()
    cfg.MODEL.MASK_FORMER.TEST.INSTANCE_ON = True
    model = network(cfg).eval()
    image = torch.rand(3, *size) * 255
    batch = model.preprocess([{"image": image}])
    assert all((side - 1) % 16 == 0 and side >= own for side, own in zip(batch.padded_size, size, strict=True))
    results = model([{"image": image, "height": 2 * size[0], "width": 2 * size[1]}, {"image": image[:, :, :20]}])
    assert results[0]["sem_seg"].shape == (7, 2 * size[0], 2 * size[1])
    assert results[0]["instances"].pred_masks.shape[1:] == (2 * size[0], 2 * size[1])
    assert results[1]["sem_seg"].shape == (7, size[0], 20)


@torch.no_grad()
def test_images_beyond_all_learnt_distances() -> None:
    """At 4,113 pixels the farthest of 258 places share the last row of the table."""
    model = network(max_deeplab()).eval()
    masks = model.network(torch.randn(1, 3, 17, 4113)).masks
    assert masks.size == (5, 1029) and masks.features.isfinite().all()


def test_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="takes single images; found clips of 2 frames"):
        network(max_deeplab()).network(torch.randn(2, 3, 33, 33), 2)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("BLOCKS", [1, 1], "need five numbers each"),
        ("CONVOLUTIONS", "plain", "is 'plain'; choose from basic, bottleneck"),
        ("ATTENTIONS", ["P2P", "M2X"], r"found \['M2X'\]; choose from P2P"),
        ("DECODER_STRIDES", [8, 4], r"\[8, 4\] do not end at 16"),
        ("EXTRA_DECODER_STRIDES", [8, 2], r"take 4, 8 and 16; found \[2\]"),
        ("DROP_PATH_SCHEDULE", "cosine", "choose linear or constant"),
        ("DUAL_PATH_FROM_STAGE", 3, "choose 4 or 5"),
        ("SEMANTIC_STAGE", 9, "the decoder has 4 stages"),
        ("NUM_HEADS", 3, "choose multiples of 3"),
    ],
)
def test_faults_of_the_configuration(key: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network(max_deeplab(key, value))


def test_another_backbone_is_refused() -> None:
    cfg = max_deeplab()
    cfg.MODEL.BACKBONE.NAME = "D2AxialResNet"
    with pytest.raises(ValueError, match=r"needs MODEL.BACKBONE.NAME D2MaXDeepLab.*found D2AxialResNet"):
        build_model(cfg)


@pytest.mark.parametrize("v1", [False, True])
def test_other_heads_run_on_the_axial_backbone(v1: bool) -> None:
    cfg = configuration(v1)
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.MAX_DEEPLAB = "D2AxialResNet", max_deeplab().MODEL.MAX_DEEPLAB
    cfg.MODEL.MASK_FORMER.CRITERION, cfg.MODEL.CHECKPOINT = "AllOutputs", ["backbone"]
    torch.manual_seed(0)
    model = build_model(cfg).train()
    assert {name: shape.stride for name, shape in model.backbone.output_shape().items()} == {
        "res2": 4,
        "res3": 8,
        "res4": 16,
        "res5": 16,
    }
    prediction = model.network(torch.randn(1, 3, 64, 64))
    assert prediction.masks.size == (16, 16)
    (loss,) = model.criterion(prediction, None).values()
    loss.backward()
    assert all(p.grad is not None for p in model.backbone.parameters())


@torch.no_grad()
def test_the_axial_backbone_is_the_encoder_without_its_memory() -> None:
    """Weights go from the one to the other by name, and the first dual-path block does not change what is before it."""
    cfg = max_deeplab("OUT_FEATURES", ["res2", "res3", "last"])
    whole = network(cfg).backbone.eval()
    cfg.MODEL.BACKBONE.NAME = "D2AxialResNet"
    plain = build_backbone(cfg).eval()
    missing = plain.load_state_dict(whole.state_dict(), strict=False).missing_keys
    assert not missing
    images = torch.randn(1, 3, 33, 33)
    ours, theirs = plain(images), whole(images)
    assert ours["last"].shape == (1, 64, 3, 3)  # the decoder's pre-trained part ends at stride 16
    for name in ("res2", "res3"):
        torch.testing.assert_close(ours[name], theirs[name])


@torch.no_grad()
def test_mixed_precision_is_near() -> None:
    model = network(max_deeplab()).eval()
    images = torch.randn(1, 3, 33, 33)
    exact = model.network(images)
    with torch.autocast("cpu", torch.bfloat16):
        near = model.network(images)
    assert near.masks.features.dtype == torch.float32
    torch.testing.assert_close(near.class_logits.float(), exact.class_logits, rtol=0, atol=0.1)
