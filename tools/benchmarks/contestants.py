"""Implementations of multi-scale deformable attention, all with one signature.

All take the raw inputs. If an operator takes locations and weights instead of offsets and logits, the arithmetic and
the softmax in between are done in PyTorch and count as part of it, since the models need them either way.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.cases import Inputs

Operator = Callable[[Inputs], Tensor]  # returns [B, Q, heads * C]


def locations(inputs: Inputs) -> Tensor:
    """Return the sampling locations [B, Q, heads, L, P, 2] in units of the image, at least float32."""
    offsets = inputs.offsets.to(torch.promote_types(inputs.offsets.dtype, torch.float32))
    pixel_size, _, _ = _levels(tuple(inputs.shapes), inputs.value.device)
    return inputs.reference[:, :, None, :, None] + offsets * pixel_size[:, None]


def weights(inputs: Inputs) -> Tensor:
    """Return the weights [B, Q, heads, L, P], which add up to 1 over L * P."""
    return inputs.logits.flatten(-2).softmax(-1).view_as(inputs.logits)


@functools.cache  # models make these once for all layers
def _levels(shapes: tuple[tuple[int, int], ...], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return [L, 2] width and height of a pixel, [L, 2] (H, W), and [L] first positions."""
    sizes = torch.tensor(shapes, device=device)
    numbers = sizes.prod(1)
    return 1 / sizes.flip(1).float(), sizes, numbers.cumsum(0) - numbers


def _of_locations(name: str) -> Operator:
    """Use an operator of ours that takes locations and weights as arguments."""
    operator = getattr(importlib.import_module("mask2former.ops"), name)
    return lambda inputs: operator(inputs.value, inputs.shapes, locations(inputs), weights(inputs))


def _fused() -> Operator:
    ops = importlib.import_module("mask2former.ops")
    if not hasattr(ops, "ms_deform_attn_fused"):
        raise ImportError("mask2former.ops has no ms_deform_attn_fused")
    return lambda inputs: ops.ms_deform_attn_fused(
        inputs.value, inputs.shapes, inputs.reference, inputs.offsets, inputs.logits
    )


def _hugging_face() -> Operator:
    module = importlib.import_module("transformers.models.mask2former.modeling_mask2former")

    def run(inputs: Inputs) -> Tensor:
        places = locations(inputs).to(inputs.value.dtype)
        return module.multi_scale_deformable_attention(inputs.value, inputs.shapes, places, weights(inputs))

    return run


def _deformops() -> Operator:
    msda = importlib.import_module("deformops.registry").msda

    def run(inputs: Inputs) -> Tensor:
        _, shapes, starts = _levels(tuple(inputs.shapes), inputs.value.device)
        return msda(inputs.value, shapes, starts, locations(inputs), inputs.logits, method="softmax")

    return run


def _mmcv() -> Operator:
    module = importlib.import_module("mmcv.ops.multi_scale_deform_attn")

    def run(inputs: Inputs) -> Tensor:
        _, shapes, starts = _levels(tuple(inputs.shapes), inputs.value.device)
        places = locations(inputs).to(inputs.value.dtype)
        if not inputs.value.is_cuda:
            return module.multi_scale_deformable_attn_pytorch(inputs.value, shapes, places, weights(inputs))
        function = module.MultiScaleDeformableAttnFunction
        return function.apply(inputs.value, shapes, starts, places, weights(inputs), len(inputs.value))

    return run


@dataclass(frozen=True)
class Contestant:
    label: str
    about: str
    load: Callable[[], Operator]  # raises ImportError if it is not installed


CONTESTANTS = {
    "fused": Contestant("ours, fused", "mask2former.ops.ms_deform_attn_fused, softmax and locations inside", _fused),
    "classic": Contestant(
        "ours, classic",
        "mask2former.ops.ms_deform_attn after softmax and locations",
        partial(_of_locations, "ms_deform_attn"),
    ),
    "plain": Contestant(
        "plain PyTorch",
        "mask2former.ops.ms_deform_attn_reference, likewise",
        partial(_of_locations, "ms_deform_attn_reference"),
    ),
    "huggingface": Contestant(
        "Hugging Face", "the function of transformers' Mask2Former, likewise; locations in the dtype", _hugging_face
    ),
    "deformops": Contestant("deformops", "deformops.registry.msda(method='softmax') after locations", _deformops),
    "mmcv": Contestant("mmcv", "its CUDA function, or plain PyTorch on a CPU; locations in the dtype", _mmcv),
}


def load(names: list[str]) -> tuple[dict[str, Operator], dict[str, str]]:
    """Return the contestants that can be loaded, and for the others the reason why not."""
    present, absent = {}, {}
    for name in names:
        try:
            present[name] = CONTESTANTS[name].load()
        except (ImportError, AttributeError) as error:
            missing = isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] != "mask2former"
            absent[name] = "not installed" if missing else str(error)
    return present, absent
