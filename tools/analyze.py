#!/usr/bin/env python3
"""Parameters, FLOPs, activations and time of a model, part by part. ``--help`` shows how."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis
from fvcore.nn.jit_handles import generic_activation_jit, get_shape
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mask2former.config import ConfigError, load_config
from mask2former.config.command_line import add_options, add_trust
from mask2former.modeling import MaskFormer

EXAMPLE = """
One FLOP is one multiplication with its addition, as fvcore counts and as papers on detection report. Published numbers
are of COCO panoptic models, averaged over pictures of COCO whose short side is 800 pixels; one of 800x1067 (4:3) is
analysed here. "results" is what follows the network; for panoptic and instance results it depends on what is found.

On the device "meta" nothing is computed, which takes seconds: the network's products and convolutions are counted, with
all masks at its own size, but not normalisation, resizing and sampling, nor what follows it; there are no times.

examples:
  analyze.py --config-file configs/coco/panoptic/r50.yaml MODEL.DEVICE cpu
  analyze.py --config-file configs/coco/panoptic/swin_large_in21k.yaml MODEL.DEVICE meta
"""
PARTS = {"backbone": "backbone", "pixel decoder": "sem_seg_head.pixel_decoder", "decoder": "sem_seg_head.predictor"}
# Millions of parameters and 10^9 FLOPs of Mask2Former on COCO panoptic (arXiv 2112.01527, table 1).
PUBLISHED_RESNET = {50: ("R50", 44, 226), 101: ("R101", 63, 293)}
PUBLISHED_SWIN = {
    (96, 6): ("Swin-T", 47, 232),
    (96, 18): ("Swin-S", 69, 313),
    (128, 18): ("Swin-B", 107, 466),
    (192, 18): ("Swin-L", 216, 868),
}


class OnePicture(nn.Module):
    """Model of one picture, [3, H, W] -> tensors: what fvcore can trace."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> list[Tensor]:
        return list(_tensors(self.model([{"image": image}])))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif hasattr(value, "get_fields"):  # Detectron2's Instances
        yield from _tensors(list(value.get_fields().values()))
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def attention_flops(inputs: list[Any], outputs: list[Any]) -> float:
    """Scaled dot products of [..., Q, C] with [..., S, C], then the weighted sum of values [..., S, V]."""
    query, key, value = (get_shape(x) for x in inputs[:3])
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def deformable_attention_flops(inputs: list[Any], outputs: list[Any]) -> float:
    """At each sampling point, for each channel: four neighbours and the attention weight."""
    value, weights = get_shape(inputs[0]), get_shape(inputs[3])
    return 5 * math.prod(weights) * value[-1]


HANDLERS: dict[str, Callable[[list[Any], list[Any]], float]] = {
    "aten::scaled_dot_product_attention": attention_flops,
    "mask2former::ms_deform_attn": deformable_attention_flops,
}


def count(model: nn.Module, image: Tensor) -> dict[str, tuple[float, float, float]]:
    """Parameters, FLOPs and activations (elements of the outputs of products) by part, and their "total"."""
    flops = FlopCountAnalysis(OnePicture(model), (image,)).set_op_handle(**HANDLERS)
    generic = {name: generic_activation_jit(name) for name in HANDLERS}
    activations = ActivationCountAnalysis(OnePicture(model), (image,)).set_op_handle(**generic)
    by_part = []
    for analysis in (flops, activations):
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        by_part.append(analysis.by_module())
    counted = {}
    for part, name in {**PARTS, "total": ""}.items():
        module = model.get_submodule(name)
        parameters = sum(parameter.numel() for parameter in module.parameters())
        full = f"model.{name}" if name else ""
        counted[part] = (parameters, by_part[0][full], by_part[1][full])
    return counted


class Network(nn.Module):
    """The network alone, a padded picture [1, 3, H, W] -> class logits and mask logits: what needs no values."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        prediction = self.model.sem_seg_head(self.model.backbone(picture))
        return prediction.class_logits, prediction.masks.logits()


def count_products(model: MaskFormer, size: tuple[int, int]) -> dict[str, tuple[float, float, float]]:
    """As :func:`count`, without activations (not a number), for a model on the device "meta", which has no values."""
    height, width = (math.ceil(side / model.size_divisibility) * model.size_divisibility for side in size)

    whole = Network(model).requires_grad_(False)  # the counter's hooks stumble over parameters' views
    with FlopCounterMode(display=False) as counter:
        whole(torch.empty(1, 3, height, width, device="meta"))
    by_module = counter.get_flop_counts()
    counted = {}
    for part, name in {**PARTS, "total": ""}.items():
        module = model.get_submodule(name)
        parameters = sum(parameter.numel() for parameter in module.parameters())
        full = f"Network.model.{name}" if name else "Network"
        flops = sum(by_module[full].values()) / 2  # it counts multiplications and additions
        counted[part] = (parameters, flops, math.nan)
    return counted


@contextmanager
def _clocks(model: nn.Module, spent: dict[str, float]) -> Iterator[None]:
    """Add the seconds of each part's forward passes to ``spent``."""
    handles = []
    for part, name in {**PARTS, "total": ""}.items():
        started: list[float] = []

        def before(*_: Any, started: list[float] = started) -> None:
            started.append(_now())

        def after(*_: Any, part: str = part, started: list[float] = started) -> None:
            spent[part] += _now() - started.pop()

        module = model.get_submodule(name)
        handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def measure(model: nn.Module, image: Tensor, repeats: int) -> dict[str, float]:
    """Mean seconds by part, and the "total", after one pass to warm up."""
    spent = dict.fromkeys([*PARTS, "total"], 0.0)
    model([{"image": image}])
    with _clocks(model, spent):
        for _ in range(repeats):
            model([{"image": image}])
    return {part: seconds / repeats for part, seconds in spent.items()}


@torch.no_grad()
def analyse(model: nn.Module, size: tuple[int, int], device: str, repeats: int) -> tuple[dict, dict[str, float]]:
    """What :func:`count` and :func:`measure` find; on "meta" what :func:`count_products` does, and no times."""
    if device == "meta":
        if not isinstance(model, MaskFormer):
            raise ValueError(f"{type(model).__name__} is not counted on the device meta; name another MODEL.DEVICE.")
        return count_products(model, size), {}
    image = torch.randint(0, 256, (3, *size), device=device).float()
    return count(model, image), measure(model, image, repeats)


def published(cfg: CfgNode) -> tuple[str, int, int] | None:
    """(Backbone, 10^6 parameters, 10^9 FLOPs) of the published model with this network, if there is one."""
    node = cfg.MODEL
    if (
        node.MASK_FORMER.TRANSFORMER_DECODER_NAME != "MultiScaleMaskedTransformerDecoder"
        or node.MASK_FORMER.DEC_LAYERS != 10
    ):
        return None
    if node.BACKBONE.NAME == "build_resnet_backbone":
        return PUBLISHED_RESNET.get(node.RESNETS.DEPTH)
    if node.BACKBONE.NAME == "D2SwinTransformer":
        return PUBLISHED_SWIN.get((node.SWIN.EMBED_DIM, node.SWIN.DEPTHS[2]))
    return None


def table(counted: dict[str, tuple[float, float, float]], seconds: dict[str, float]) -> str:
    """``seconds`` are empty where nothing was timed."""
    rows = {part: (*counted[part], seconds.get(part, math.nan)) for part in counted}
    total = rows.pop("total")
    rest = tuple(whole - sum(row[i] for row in rows.values()) for i, whole in enumerate(total))
    lines = [f"{'':14}{'parameters':>14}{'FLOPs':>14}{'activations':>14}{'seconds':>10}"]
    for part, (parameters, flops, activations, spent) in {**rows, "results": rest, "total": total}.items():
        lines.append(
            f"{part:14}{parameters / 1e6:12.2f} M{flops / 1e9:12.2f} G{activations / 1e6:12.1f} M{spent:10.3f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Parameters, FLOPs, activations and time of a model, part by part, beside the published ones.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1067), metavar=("H", "W"), help="[800 1067]")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="passes that are timed [%(default)s]")
    add_trust(parser)
    add_options(parser)
    args = parser.parse_args()

    torch.manual_seed(0)
    try:
        cfg = load_config(args.config_file, args.opts, args.allow_unsafe_config)
        model = build_model(cfg).eval()
    except (ConfigError, ValueError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")
    if unknown := [name for name in PARTS.values() if not _has(model, name)]:
        sys.exit(f"error: {type(model).__name__} has no {', '.join(unknown)}; mask architectures are analysed here.")
    try:
        counted, seconds = analyse(model, tuple(args.size), cfg.MODEL.DEVICE, max(1, args.repeats))
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(f"{args.config_file}: one picture of {args.size[0]}x{args.size[1]}, random weights, {cfg.MODEL.DEVICE}")
    print(table(counted, seconds))
    if known := published(cfg):
        name, parameters, flops = known
        print(f"published ({name}, COCO panoptic, pictures of COCO with a short side of 800): ", end="")
        print(f"{parameters} M parameters, {flops} G FLOPs")


def _has(model: nn.Module, name: str) -> bool:
    try:
        model.get_submodule(name)
    except AttributeError:
        return False
    return True


if __name__ == "__main__":
    main()
