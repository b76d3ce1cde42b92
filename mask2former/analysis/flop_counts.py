"""Parameters, FLOPs and activations of a model by part: fvcore's counting, with the operators that it does not know."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis
from fvcore.nn.jit_handles import addmm_flop_jit, generic_activation_jit, get_shape
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mask2former.modeling.meta_arch import SegmentationModel
from mask2former.modeling.meta_arch.batch import padded_side
from mask2former.ops.flops import SAMPLE, SOFTMAX, ms_deform_attn_flops, ms_deform_attn_fused_flops

PARTS = {"backbone": "backbone", "pixel decoder": "sem_seg_head.pixel_decoder", "decoder": "sem_seg_head.predictor"}
# Where queries join a plain ViT, the rest of the total is the ViT's blocks.
VIT_PARTS = {"patch embedding": "backbone.patch_embed", "head": "sem_seg_head"}
# Where the decoder is a part of the backbone, as in MaX-DeepLab.
WHOLE_PARTS = {"backbone": "backbone", "head": "sem_seg_head"}


def parts_of(model: nn.Module) -> dict[str, str]:
    """Return the names of a mask architecture's parts; none for another model."""
    names = {name for name, _ in model.named_modules()}
    return next((parts for parts in (PARTS, VIT_PARTS, WHOLE_PARTS) if names >= set(parts.values())), {})


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
    counted: dict[str, tuple[float, float, float]] = {}
    for part, name in {**parts_of(model), "total": ""}.items():
        module = model.get_submodule(name)
        parameters = sum(parameter.numel() for parameter in module.parameters())
        full = f"model.{name}" if name else ""
        counted[part] = (parameters, by_part[0][full], by_part[1][full])
    return counted


class Network(nn.Module):
    """The network alone, padded image [1, 3, H, W] -> class logits and mask logits, which runs without values."""

    def __init__(self, model: SegmentationModel) -> None:
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
    counted: dict[str, tuple[float, float, float]] = {}
    for part, name in {**parts_of(model), "total": ""}.items():
        module = model.get_submodule(name)
        parameters = sum(parameter.numel() for parameter in module.parameters())
        full = f"Network.model.{name}" if name else "Network"
        products = sum(by_module[full].values()) / 2  # the counter counts multiplications and additions
        counted[part] = (parameters, products, math.nan)
    return counted
