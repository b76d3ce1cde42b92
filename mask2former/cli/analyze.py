"""Count parameters, FLOPs and activations of a model by part, and time it: ``mask2former analyze``."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import Tensor, nn

from mask2former.analysis.flop_counts import PARTS, count, count_products, parts_of
from mask2former.config import ConfigError, config_path, load_config
from mask2former.modeling.meta_arch import SegmentationModel

# Millions of parameters and 10^9 FLOPs of Mask2Former on COCO panoptic (arXiv 2112.01527, table 1).
PUBLISHED_RESNET = {50: ("R50", 44, 226), 101: ("R101", 63, 293)}
PUBLISHED_SWIN = {
    (96, 6): ("Swin-T", 47, 232),
    (96, 18): ("Swin-S", 69, 313),
    (128, 18): ("Swin-B", 107, 466),
    (192, 18): ("Swin-L", 216, 868),
}


@contextmanager
def _clocks(model: nn.Module, spent: dict[str, float]) -> Iterator[None]:
    """Add the seconds of each part's forward passes to ``spent``."""
    handles = []
    for part, name in {**parts_of(model), "total": ""}.items():
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
    """Return the mean seconds by part, and the "total", after one pass to warm up."""
    spent = dict.fromkeys([*parts_of(model), "total"], 0.0)
    model([{"image": image}])
    with _clocks(model, spent):
        for _ in range(repeats):
            model([{"image": image}])
    return {part: seconds / repeats for part, seconds in spent.items()}


@torch.no_grad()
def analyse(model: nn.Module, size: tuple[int, int], device: str, repeats: int) -> tuple[dict, dict[str, float]]:
    """Return the results of :func:`count` and :func:`measure`; on "meta" those of :func:`count_products`, no times."""
    if device == "meta":
        if not isinstance(model, SegmentationModel):
            raise ValueError(f"{type(model).__name__} cannot be counted on the device meta; set another MODEL.DEVICE.")
        return count_products(model, size), {}
    image = torch.randint(0, 256, (3, *size), device=device).float()
    return count(model, image), measure(model, image, repeats)


def published(cfg: CfgNode) -> tuple[str, int, int] | None:
    """Return (backbone, 10^6 parameters, 10^9 FLOPs) of the published model with this network, if there is one."""
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
    """Return the table as text; ``seconds`` are empty if nothing was timed."""
    rows = {part: (*counted[part], seconds.get(part, math.nan)) for part in counted}
    total = rows.pop("total")
    rest = tuple(whole - sum(row[i] for row in rows.values()) for i, whole in enumerate(total))
    lines = [f"{'':16}{'parameters':>14}{'FLOPs':>14}{'activations':>14}{'seconds':>10}"]
    for part, (parameters, flops, activations, spent) in {**rows, rest_of(counted): rest, "total": total}.items():
        lines.append(
            f"{part:16}{parameters / 1e6:12.2f} M{flops / 1e9:12.2f} G{activations / 1e6:12.1f} M{spent:10.3f}"
        )
    return "\n".join(lines)


def run(args: argparse.Namespace) -> int:
    """Run the command of the parsed words. Return its exit status."""
    torch.manual_seed(0)
    try:
        cfg = load_config(config_path(args.config_file), args.opts, args.allow_unsafe_config)
        model = build_model(cfg).eval()
    except (ConfigError, ValueError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")
    if not parts_of(model):
        known = ", ".join(PARTS.values())
        sys.exit(f"error: {type(model).__name__} has no {known}; only mask architectures can be analysed.")
    try:
        counted, seconds = analyse(model, tuple(args.size), cfg.MODEL.DEVICE, max(1, args.repeats))
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(f"{args.config_file}: one image of {args.size[0]}x{args.size[1]}, random weights, {cfg.MODEL.DEVICE}")
    print(table(counted, seconds))
    if theirs := published(cfg):
        name, parameters, flops = theirs
        print(f"published ({name}, COCO panoptic, images of COCO with a short side of 800): ", end="")
        print(f"{parameters} M parameters, {flops} G FLOPs")
    return 0


def rest_of(counted: Mapping[str, object]) -> str:
    """Name what is left of the total beside the parts that were counted."""
    return "blocks, results" if "patch embedding" in counted else "results"
