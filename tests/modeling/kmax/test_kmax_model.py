"""The whole kMaX-DeepLab, small: sizes, predictions, gradients, weight decay, bad input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from small_models import kmax
from torch import Tensor

from mask2former.engine.optimizer import parameter_groups
from mask2former.modeling.activation_checkpoint import checkpoint_activations
from mask2former.modeling.kmax import kMaXDeepLab
from mask2former.structures import PIXEL_EMBEDDING, MaskPrediction


def network(cfg: CfgNode) -> kMaXDeepLab:
    torch.manual_seed(0)
    return build_model(cfg)


def summed(model: kMaXDeepLab, prediction: MaskPrediction) -> Tensor:
    (total,) = model.criterion(prediction, None).values()
    return total


@pytest.mark.parametrize("decoder", [True, False])
def test_training_predicts_after_every_layer(decoder: bool) -> None:
    cfg = kmax()
    cfg.MODEL.KMAX_DEEPLAB.USE_AUX_SEMANTIC_DECODER = decoder
    model = network(cfg).train()
    prediction = model.network(torch.randn(2, 3, 97, 65))
    assert [layer.masks.size for layer in prediction.aux] == [(4, 3), (4, 3), (7, 5)]
    assert prediction.masks.size == (25, 17)
    for layer in (*prediction.aux, prediction):
        assert layer.class_logits.shape == (2, 12, 8)
        embedding = layer.extras[PIXEL_EMBEDDING]
        torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2, *layer.masks.size))
        torch.testing.assert_close(embedding, layer.masks.features[:, :, 0])
    semantic = prediction.extras["semantic_logits"]
    assert semantic.shape == ((2, 8, 25, 17) if decoder else (2, 7, 4, 3))
    summed(model, prediction).backward()
    without = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert not without
    fixed = {name.rsplit(".", 2)[-2] for name, p in model.named_parameters() if not p.requires_grad}
    assert fixed == {"_pixel_space_mask_batch_norm"}


@torch.no_grad()
def test_a_new_network_says_no_object() -> None:
    model = network(kmax()).train()
    probabilities = model.network(torch.randn(2, 3, 65, 65)).class_logits.softmax(-1)
    assert probabilities[..., -1].mean() == pytest.approx(0.9, abs=0.02)


@torch.no_grad()
def test_inference_gives_the_last_prediction_of_training() -> None:
    """Alone, and without the semantic branch."""
    model = network(kmax()).eval()
    images = torch.randn(1, 3, 65, 97)
    alone = model.network(images)
    assert not alone.aux and "semantic_logits" not in alone.extras
    model.sem_seg_head.training = True  # as for the loss of validation
    full = model.network(images)
    assert len(full.aux) == 3
    torch.testing.assert_close(full.class_logits, alone.class_logits)
    torch.testing.assert_close(full.masks.logits(), alone.masks.logits())


def test_recomputation_changes_nothing() -> None:
    models = [network(kmax()).train() for _ in range(2)]
    parts = {"backbone": models[1].backbone, "pixel_decoder": models[1].sem_seg_head.pixel_decoder}
    parts["transformer_decoder"] = models[1].sem_seg_head.predictor
    checkpoint_activations(list(parts), parts)
    images = torch.randn(2, 3, 65, 65)
    losses = []
    for model in models:
        torch.manual_seed(1)  # the semantic branch has dropout
        losses.append(summed(model, model.network(images)))
    torch.testing.assert_close(losses[0], losses[1])
    for loss in losses:
        loss.backward()
    pairs = zip(models[0].named_parameters(), models[1].parameters(), strict=True)
    for (name, plain), recomputed in pairs:
        if plain.requires_grad:
            torch.testing.assert_close(plain.grad, recomputed.grad, msg=name)
    statistics = zip(models[0].named_buffers(), models[1].buffers(), strict=True)
    for (name, plain), recomputed in statistics:
        torch.testing.assert_close(plain, recomputed, msg=name)


@torch.no_grad()
def test_mixed_precision_is_near() -> None:
    model = network(kmax()).eval()
    images = torch.randn(1, 3, 65, 65)
    exact = model.network(images)
    with torch.autocast("cpu", torch.bfloat16):
        near = model.network(images)
    assert near.masks.features.dtype == torch.float32
    torch.testing.assert_close(near.class_logits.float(), exact.class_logits, rtol=0, atol=0.1)


@torch.no_grad()
@pytest.mark.parametrize("size", [(33, 97), (97, 33), (50, 70), (1, 40)])
def test_any_size_and_orientation_is_answered(size: tuple[int, int]) -> None:
    cfg = kmax()
    cfg.MODEL.MASK_FORMER.TEST.INSTANCE_ON = True
    model = network(cfg).eval()
    image = torch.rand(3, *size) * 255
    batch = model.preprocess([{"image": image}])
    assert all((side - 1) % 32 == 0 and side >= own for side, own in zip(batch.padded_size, size, strict=True))
    results = model([{"image": image, "height": 2 * size[0], "width": 2 * size[1]}, {"image": image[:, :, :20]}])
    assert results[0]["sem_seg"].shape == (7, 2 * size[0], 2 * size[1])
    assert results[0]["instances"].pred_masks.shape[1:] == (2 * size[0], 2 * size[1])
    assert results[1]["sem_seg"].shape == (7, size[0], 20)


@torch.no_grad()
def test_published_canvas_is_a_divisibility() -> None:
    cfg = kmax()
    cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY = 64
    model = network(cfg)
    sizes = {(64, 65): (65, 65), (65, 20): (65, 65), (66, 129): (129, 129)}
    for size, canvas in sizes.items():
        assert model.preprocess([{"image": torch.zeros(3, *size)}]).padded_size == canvas
    inputs = [{"image": torch.zeros(3, 65, 65)}, {"image": torch.full((3, 30, 129), 255.0)}]
    batch = model.preprocess(inputs)
    assert batch.padded_size == (65, 129) and batch.images.image_sizes == [(65, 65), (30, 129)]
    assert batch.images.tensor[0, :, :65, :65].eq(-1).all() and batch.images.tensor[0, :, :, 65:].eq(0).all()
    assert batch.images.tensor[1, :, :30].eq(1).all() and batch.images.tensor[1, :, 30:].eq(0).all()


def test_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="takes single images; found clips of 2 frames"):
        network(kmax()).network(torch.randn(2, 3, 33, 33), 2)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("PIXEL_DEC.DEC_LAYERS", [1, 1], "need 4 entries each"),
        ("PIXEL_DEC.DEC_LAYERS", [1, 1, 0, 1], "each stage needs at least one block"),
        ("PIXEL_DEC.LAYER_TYPES", ["axial", "axial", "plain", "plain"], r"found \['plain'\]; choose from axial"),
        ("PIXEL_DEC.IN_FEATURES", ["res1", "res2", "res3", "res4"], r"names \['res1'\], but the backbone gives"),
        ("TRANS_DEC.DEC_LAYERS", [1, 1, 1, 1, 1], "has 5 entries; the pixel decoder has 4 stages"),
        ("TRANS_DEC.NUM_HEADS", 5, "multiple of twice NUM_HEADS, 10"),
    ],
)
def test_faults_of_the_configuration(key: str, value: Any, message: str) -> None:
    cfg = kmax()
    cfg.merge_from_list([f"MODEL.KMAX_DEEPLAB.{key}", value])
    with pytest.raises(ValueError, match=message):
        network(cfg)


def test_weight_decay_is_the_published_one() -> None:
    cfg = kmax()
    cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.BACKBONE_MULTIPLIER = 1.0, 0.05, 0.1
    model = network(cfg)
    groups = {id(p): group for group in parameter_groups(cfg, model) for p in group["params"]}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        group = groups[id(parameter)]
        matrix = parameter.ndim > 1 and not any(part in name for part in ("_rpe", "_cluster_centers"))
        assert group["weight_decay"] == (0.05 if matrix else 0.0), name
        assert group["lr"] == (0.1 if name.startswith("backbone.") else 1.0), name


def test_published_names_are_registered() -> None:
    assert META_ARCH_REGISTRY.get("kMaXDeepLab") is kMaXDeepLab
