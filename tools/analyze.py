#!/usr/bin/env python3
"""Parameters, FLOPs, activations and time of a model, part by part. ``--help`` shows how."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis
from fvcore.nn.jit_handles import addmm_flop_jit, generic_activation_jit, get_shape
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mask2former.config import ConfigError, load_config
from mask2former.modeling.meta_arch import SegmentationModel
from mask2former.modeling.meta_arch.batch import padded_side
from mask2former.ops.flops import SAMPLE, SOFTMAX, ms_deform_attn_flops, ms_deform_attn_fused_flops
from mask2former_cli.arguments import add_options, add_trust

EXAMPLE = """
One FLOP is one multiplication with its addition, as fvcore counts and as papers on detection report. Published numbers
are of COCO panoptic models, averaged over images of COCO whose short side is 800 pixels; one of 800x1067 (4:3) is
analysed here. "results" is what follows the network; for panoptic and instance results it depends on what is found.
Element-wise functions, comparisons and copies are free; an operator that is neither free nor counted is named.

On the device "meta" nothing is computed, which takes seconds: the network's products, convolutions and deformable
attention are counted, with all masks at its own size, but not normalisation, resizing and other softmax, nor what
follows the network; there are no times.

examples:
  analyze.py --config-file configs/coco/panoptic/r50.yaml MODEL.DEVICE cpu
  analyze.py --config-file configs/coco/panoptic/swin_large_in21k.yaml MODEL.DEVICE meta
"""
PARTS = {"backbone": "backbone", "pixel decoder": "sem_seg_head.pixel_decoder", "decoder": "sem_seg_head.predictor"}
# Where queries join a plain ViT, the rest of the total is the ViT's blocks.
VIT_PARTS = {"patch embedding": "backbone.patch_embed", "head": "sem_seg_head"}
# Where the decoder is a part of the backbone, as in MaX-DeepLab.
WHOLE_PARTS = {"backbone": "backbone", "head": "sem_seg_head"}
# Millions of parameters and 10^9 FLOPs of Mask2Former on COCO panoptic (arXiv 2112.01527, table 1).
PUBLISHED_RESNET = {50: ("R50", 44, 226), 101: ("R101", 63, 293)}
PUBLISHED_SWIN = {
    (96, 6): ("Swin-T", 47, 232),
    (96, 18): ("Swin-S", 69, 313),
    (128, 18): ("Swin-B", 107, 466),
    (192, 18): ("Swin-L", 216, 868),
}


class OneImage(nn.Module):
    """Wrap a model to map one image, [3, H, W], to tensors, as fvcore's tracing needs."""

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
    """Count dot products of [..., Q, C] with [..., S, C], their softmax, and the weighted sum of values [..., S, V]."""
    query, key, value = (get_shape(x) for x in inputs[:3])
    return math.prod(query[:-1]) * key[-2] * (query[-1] + SOFTMAX + value[-1])


def by_shapes(formula: Callable[..., int]) -> Callable[[list[Any], list[Any]], float]:
    """Make a handler from a formula that takes the shapes of an operator's arguments."""
    return lambda inputs, outputs: formula(*(get_shape(x) for x in inputs))


def for_each_element(count: int) -> Callable[[list[Any], list[Any]], float]:
    """Make a handler that counts ``count`` for each element of the result."""
    return lambda inputs, outputs: count * math.prod(get_shape(outputs[0]))


PRODUCTS: dict[str, Callable[[list[Any], list[Any]], float]] = {
    "aten::addmm_": addmm_flop_jit,  # adds up masks for semantic results
    "aten::scaled_dot_product_attention": attention_flops,
    "mask2former::ms_deform_attn": by_shapes(ms_deform_attn_flops),
    "mask2former::ms_deform_attn_fused": by_shapes(ms_deform_attn_fused_flops),
}
HANDLERS = {
    **PRODUCTS,
    "aten::softmax": for_each_element(SOFTMAX),
    "aten::upsample_bicubic2d": for_each_element(16),  # neighbours, as fvcore counts 4 for bilinear resizing
    # Only deformable attention samples, if it is not compiled: each sample is then multiplied by its weight.
    "aten::grid_sampler": for_each_element(SAMPLE),
}
# Operators of at most a few operations for each element. fvcore has its own list too, with relu and views; published
# numbers leave out both. Nothing that multiplies matrices or sums over neighbours belongs here.
ELEMENT_WISE = (
    "add add_ sub rsub mul div neg pow sin cos sigmoid gelu nan_to_num masked_fill_ sum scatter_add_ reciprocal "
    "softplus where ones_like new_ones rsqrt clamp_min logit linalg_vector_norm index_add __lshift__ __rshift__"
)
COMPARISONS = "any isnan __or__ __ior__ maximum ne lt isin max_pool2d amax argmax topk argsort _unique2 searchsorted"
COPIES_AND_VIEWS = "clone embedding expand_as repeat pad unflatten view_as numpy_T resolve_conj resolve_neg"
FREE = [f"aten::{name}" for name in f"{ELEMENT_WISE} {COMPARISONS} {COPIES_AND_VIEWS}".split()]


def flop_analysis(model: nn.Module, image: Tensor) -> FlopCountAnalysis:
    """Return fvcore's count of a whole model; it logs the operators that are neither counted nor :data:`FREE`."""
    analysis = FlopCountAnalysis(OneImage(model), (image,)).set_op_handle(**dict.fromkeys(FREE), **HANDLERS)
    # Some modules are rightly not called, such as the criterion.
    return analysis.uncalled_modules_warnings(False).tracer_warnings("none")


def count(model: nn.Module, image: Tensor) -> dict[str, tuple[float, float, float]]:
    """Count parameters, FLOPs and activations (elements of the outputs of products) by part, and their "total"."""
    generic = {name: generic_activation_jit(name) for name in PRODUCTS}
    activations = ActivationCountAnalysis(OneImage(model), (image,)).set_op_handle(**generic)
    # All operators but products are meant to be unsupported.
    activations.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    by_part = [analysis.by_module() for analysis in (flop_analysis(model, image), activations)]
    counted = {}
    for part, name in {**parts_of(model), "total": ""}.items():
        module = model.get_submodule(name)
        parameters = sum(parameter.numel() for parameter in module.parameters())
        full = f"model.{name}" if name else ""
        counted[part] = (parameters, by_part[0][full], by_part[1][full])
    return counted


class Network(nn.Module):
    """The network alone, padded image [1, 3, H, W] -> class logits and mask logits, which runs without values."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        prediction = self.model.network(image)
        return prediction.class_logits, prediction.masks.logits()


# Deformable attention if it is not compiled; if it is, mask2former.ops.flops has registered its formulas.
PLAIN_SAMPLING = {
    torch.ops.aten.grid_sampler_2d: lambda *_, out_shape, **__: 2 * SAMPLE * math.prod(out_shape),
    torch.ops.aten._softmax: lambda *_, out_shape, **__: 2 * SOFTMAX * math.prod(out_shape),
}


def count_products(model: SegmentationModel, size: tuple[int, int]) -> dict[str, tuple[float, float, float]]:
    """Count like :func:`count`, but no activations (NaN), for a model on the device "meta", which has no values."""
    height, width = (padded_side(side, model.size_divisibility, model.size_offset) for side in size)

    whole = Network(model).requires_grad_(False)  # the counter's hooks fail on views of parameters
    with FlopCounterMode(display=False, custom_mapping=PLAIN_SAMPLING) as counter:
        whole(torch.empty(1, 3, height, width, device="meta"))
    by_module = counter.get_flop_counts()
    counted = {}
    for part, name in {**parts_of(model), "total": ""}.items():
        module = model.get_submodule(name)
        parameters = sum(parameter.numel() for parameter in module.parameters())
        full = f"Network.model.{name}" if name else "Network"
        products = sum(by_module[full].values()) / 2  # the counter counts multiplications and additions
        counted[part] = (parameters, products, math.nan)
    return counted


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Count parameters, FLOPs, activations and time of a model by part, beside published ones.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(800, 1067), metavar=("H", "W"), help="image size in pixels [800 1067]"
    )
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="number of timed passes [%(default)s]")
    add_trust(parser)
    add_options(parser)
    args = parser.parse_args()

    torch.manual_seed(0)
    try:
        cfg = load_config(args.config_file, args.opts, args.allow_unsafe_config)
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
    if known := published(cfg):
        name, parameters, flops = known
        print(f"published ({name}, COCO panoptic, images of COCO with a short side of 800): ", end="")
        print(f"{parameters} M parameters, {flops} G FLOPs")


def rest_of(counted: Mapping[str, object]) -> str:
    """Name what is left of the total beside the parts that were counted."""
    return "blocks, results" if "patch embedding" in counted else "results"


def parts_of(model: nn.Module) -> dict[str, str]:
    """Return the names of a mask architecture's parts; none for another model."""
    names = {name for name, _ in model.named_modules()}
    return next((parts for parts in (PARTS, VIT_PARTS, WHOLE_PARTS) if names >= set(parts.values())), {})


if __name__ == "__main__":
    main()
