"""Checks of what this processor can compute, for the whole package and its tests.

oneDNN decides for itself and obeys ``ONEDNN_MAX_CPU_ISA``; PyTorch's own code does what it lacks. The compiled operator
chooses among its variants in C++ (:func:`mask2former.ops.library.cpu_instructions`).
"""

from __future__ import annotations

import logging
from functools import cache

import torch

logger = logging.getLogger(__name__)

_FUSED = ("_convolution_pointwise", "_convolution_pointwise_")
_SUPPORTED = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}


def fuses_convolutions(dtype: torch.dtype) -> bool:
    """Tell whether oneDNN can fuse ReLU and sum into convolutions in ``dtype``.

    A build of PyTorch may lack these operators. They do not take float64, and take half formats only where the
    processor has instructions for them (AVX-512 or newer); elsewhere they raise.
    """
    mkldnn = torch.backends.mkldnn
    if not mkldnn.is_available() or not mkldnn.enabled or not all(hasattr(torch.ops.mkldnn, name) for name in _FUSED):
        return False
    if dtype == torch.float32:
        return True
    if dtype not in _SUPPORTED or not hasattr(torch.ops.mkldnn, _SUPPORTED[dtype]):
        return False
    if not getattr(torch.ops.mkldnn, _SUPPORTED[dtype])():
        _say_once(dtype)
        return False
    return True


@cache
def _say_once(dtype: torch.dtype) -> None:
    logger.warning(
        "This processor has no convolutions in %s, so PyTorch emulates them: some forty times slower than float32, "
        "which you get with SOLVER.AMP.ENABLED False or without autocast.",
        str(dtype).removeprefix("torch."),
    )


def has_avx2_alone() -> bool:
    """Tell whether PyTorch computes with AVX2 here: an x86 processor without AVX-512."""
    return torch.backends.cpu.get_cpu_capability() == "AVX2"


def computes_bfloat16() -> bool:
    """Tell whether the processor has matrix instructions for bfloat16; False where PyTorch is too old to say.

    AVX-512 is not enough: on an Intel Xeon with it but without AMX, convolutions took 1.8 times as long in bfloat16 as
    in float32, and a training step of the quickstart 1.35 times.
    """
    if not hasattr(torch.cpu, "get_capabilities"):
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "bf16", "sve_bf16"))
