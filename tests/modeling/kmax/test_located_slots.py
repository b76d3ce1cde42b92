"""Slots that start from places: where, what their masks gain before pixels are assigned, and what teaches them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from small_models import kmax
from torch import Tensor
from torch.nn import functional as F

from mask2former.export import ExportedNetwork, export
from mask2former.modeling.activation_checkpoint import checkpoint_activations
from mask2former.modeling.kmax import LocatedkMaXDecoder, kMaXDeepLab
from mask2former.modeling.losses.insdis import PairwiseInsDisLoss
from mask2former.structures import PIXEL_EMBEDDING, PLACES, MaskPrediction, MaskTargets

LEARNT, LOCATED = 4, 5


def configured(located: int = LOCATED) -> CfgNode:
    cfg = kmax(NUM_OBJECT_QUERIES=LEARNT)
    cfg.MODEL.KMAX_DEEPLAB.TRANS_DEC.NAME = "LocatedkMaXDecoder"
    cfg.MODEL.MASK_FORMER.NUM_LOCATED_QUERIES = located
    cfg.MODEL.MASK_FORMER.LOSS_TERMS = ["PQClassLoss", "PlaceLoss"]
    return cfg


def network(located: int = LOCATED) -> kMaXDeepLab:
    """A network whose masks and bumps differ from slot to slot."""
    torch.manual_seed(0)
    model: kMaXDeepLab = build_model(configured(located))
    with torch.no_grad():
        for name, parameter in model.sem_seg_head.predictor.named_parameters():
            if name.startswith(("bump", "place", "content")) or "_mask_batch_norm.weight" in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def predictions_and_inputs(model: kMaXDeepLab, images: Tensor) -> tuple[MaskPrediction, list[Tensor], Tensor]:
    """All layers' predictions with running statistics, and the decoder's levels and its last one."""
    model.eval()
    model.sem_seg_head.training = True
    seen: list[Any] = []
    handle = model.sem_seg_head.predictor.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs))
    prediction = model.network(images)
    handle.remove()
    return prediction, seen[0], seen[1]


def local_maxima(scores: Tensor) -> list[int]:
    """Places of [K, H, W] at least as good as their eight neighbours in one class, best first."""
    found: dict[int, float] = {}
    for k, y, x in torch.cartesian_prod(*map(torch.arange, scores.shape)).tolist():
        around = scores[k, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        if scores[k, y, x] == around.max():
            place = y * scores.shape[2] + x
            found[place] = max(found.get(place, -math.inf), float(scores[k, y, x]))
    return sorted(found, key=lambda place: -found[place])


@torch.no_grad()
def test_first_masks_are_those_of_slots_and_bumps_about_the_best_places() -> None:
    model = network()
    decoder = model.sem_seg_head.predictor
    prediction, levels, last = predictions_and_inputs(model, torch.randn(2, 3, 97, 129))
    layer, places = decoder.get_submodule("_kmax_transformer_layers")[0], prediction.extras[PLACES]
    first = prediction.aux[0]
    assert first.class_logits.shape == (2, LEARNT + LOCATED, 8) and decoder.num_queries == LEARNT + LOCATED
    height, width = levels[-1].shape[-2:]
    step = (last.shape[-2] - 1) / (height - 1)  # cells of the last level from one place to the next
    assert step == (last.shape[-1] - 1) / (width - 1) == 4
    coarse = (last.shape[-2] - 1) / (levels[0].shape[-2] - 1)
    for image in range(2):
        best = local_maxima(places[image])[:LOCATED]
        content = decoder.content(F.gelu(levels[-1][image]).flatten(1)[:, best].T)
        slots = torch.cat([decoder.get_submodule("_cluster_centers").weight, content.T], 1)[None]
        pixels = layer._pixel_conv1_bn_act(F.gelu(levels[0][image : image + 1]))
        expected = layer.predictor.masks(pixels, layer._query_conv1_bn_act(slots)).logits()[0, :, 0]
        for row, place in enumerate(best, start=LEARNT):
            level, *weights = decoder.bump(slots[0, :, row]).tolist()
            y0, x0 = place // width * step, place % width * step
            for i in range(expected.shape[1]):
                for j in range(expected.shape[2]):
                    waves = [
                        math.log1p(math.exp(weight))
                        * (math.cos(math.tau / n * (i * coarse - y0)) + math.cos(math.tau / n * (j * coarse - x0)) - 2)
                        for weight, n in zip(weights, (16, 32, 64, 128, 256, 512), strict=True)
                    ]
                    expected[row, i, j] += level + sum(waves)
        torch.testing.assert_close(first.masks.logits(image)[:, 0], expected, atol=1e-3, rtol=1e-3)


def test_every_parameter_learns_and_recomputation_changes_nothing() -> None:
    models = [network().train() for _ in range(2)]
    checkpoint_activations(["decoder"], {"decoder": models[1].sem_seg_head.predictor})
    images = torch.randn(2, 3, 65, 65)
    for model in models:
        torch.manual_seed(1)  # the semantic branch has dropout
        prediction = model.network(images)
        (total,) = model.criterion(prediction, None).values()
        (total + prediction.extras[PLACES].square().sum()).backward()
    for (name, plain), recomputed in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        if plain.requires_grad:
            assert plain.grad is not None, name
            torch.testing.assert_close(plain.grad, recomputed.grad, msg=name)


def test_pixels_are_told_apart_by_their_embedding_without_the_waves() -> None:
    prediction = network().train().network(torch.randn(1, 3, 65, 65))
    embedding = prediction.extras[PIXEL_EMBEDDING]
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(1, 17, 17))
    masks = torch.zeros(2, 1, 17, 17, dtype=torch.bool)
    masks[0, 0, :8], masks[1, 0, 8:] = True, True
    target = MaskTargets(torch.tensor([1, 2]), masks)
    term = PairwiseInsDisLoss(count=17 * 17)
    matching = (torch.tensor([[0, 1]]), torch.tensor([[0, 1]]))
    found = term([prediction], [target], [matching])["loss_pixel_insdis"]
    logits = embedding[0].flatten(1).T @ embedding[0].flatten(1) / 0.3
    same = masks.flatten(1).float()
    wanted = same.T @ same
    expected = -(wanted / wanted.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(found[0], expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_few_places_give_fewer_slots_and_results_of_any_size() -> None:
    model = network(located=200).eval()
    assert model.network(torch.randn(1, 3, 33, 33)).class_logits.shape[1] == LEARNT + 3 * 3
    (result,) = model([{"image": torch.rand(3, 40, 90) * 255, "height": 80, "width": 180}])
    assert result["sem_seg"].shape == (7, 80, 180)


@torch.no_grad()
def test_mixed_precision_keeps_masks_in_float32() -> None:
    model = network().eval()
    with torch.autocast("cpu", torch.bfloat16):
        prediction = model.network(torch.randn(1, 3, 65, 65))
    assert prediction.masks.features.dtype == torch.float32
    assert torch.isfinite(prediction.masks.logits()).all()


@torch.no_grad()
def test_exported_programs_scatter_no_sums() -> None:
    """ONNX Runtime's lose some of several that go to one place, where threads add them at a time."""
    whole = ExportedNetwork(network().eval(), "semantic").eval()
    image = F.interpolate(torch.rand(1, 3, 5, 7), (50, 70), mode="bicubic").clamp(0, 1) * 255
    program = torch.export.export(whole, (image,), strict=False)
    torch.testing.assert_close(program.module()(image)[0], whole(image)[0])
    graphs = [module.graph for module in program.graph_module.modules() if isinstance(module, torch.fx.GraphModule)]
    called = [str(node.target) for graph in graphs for node in graph.nodes]
    assert any("argmax" in name for name in called)  # the assignment is seen, in a graph inside of the graph
    assert not [name for name in called if "index_add" in name or "index_put" in name]


@pytest.mark.slow
@torch.no_grad()
def test_onnx_runtime_gives_the_same(tmp_path: Path) -> None:
    """Compare batches and any size, with several threads."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    whole = ExportedNetwork(network().eval(), "logits").eval()
    export(whole, tmp_path / "slots.onnx", {}, dtype="float32")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 4
    session = onnxruntime.InferenceSession(str(tmp_path / "slots.onnx"), options, providers=["CPUExecutionProvider"])
    for images, height, width in ((1, 50, 70), (2, 130, 97)):
        image = F.interpolate(torch.rand(images, 3, 5, 7), (height, width), mode="bicubic").clamp(0, 1) * 255
        for found, expected in zip(
            session.run(None, {session.get_inputs()[0].name: image.numpy()}), whole(image), strict=True
        ):
            torch.testing.assert_close(torch.from_numpy(found), expected, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(
    ("located", "terms", "message"),
    [(0, ["PQClassLoss", "PlaceLoss"], "LocatedkMaXDecoder needs at least 1"), (5, ["PQClassLoss"], "has to name it")],
)
def test_settings_under_which_places_are_not_learnt_are_refused(located: int, terms: list[str], message: str) -> None:
    cfg = configured(located)
    cfg.MODEL.MASK_FORMER.LOSS_TERMS = terms
    with pytest.raises(ValueError, match=message):
        LocatedkMaXDecoder(cfg, {}, [8, 8], 8)
