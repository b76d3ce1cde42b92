"""The number format in which a training step computes."""

import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from detectron2.config import CfgNode

from mask2former.processor import computes_bfloat16

logger = logging.getLogger(__name__)

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class AmpSettings:
    """The number format of the forward pass on a kind of device; weights and losses stay float32.

    Attributes:
        device_type: "cuda", "cpu", ...
        dtype: float16, bfloat16, or float32 for no mixed precision.
    """

    device_type: str
    dtype: torch.dtype = torch.float32

    def autocast(self) -> AbstractContextManager:
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device_type, dtype=self.dtype)

    def grad_scaler(self) -> torch.amp.GradScaler:
        """Return a scaler that keeps float16's small gradients from vanishing; it does nothing in other formats."""
        return torch.amp.GradScaler(self.device_type, enabled=self.dtype == torch.float16)


def build_amp_settings(cfg: CfgNode) -> AmpSettings:
    """Read the settings from ``SOLVER.AMP.ENABLED``, ``SOLVER.AMP.DTYPE`` and ``MODEL.DEVICE``.

    "auto" is float16 on a GPU, as published. On a CPU it is bfloat16 if the processor computes in it; otherwise
    float32, because emulated bfloat16 is several times slower.
    """
    device_type = torch.device(cfg.MODEL.DEVICE).type
    if not cfg.SOLVER.AMP.ENABLED:
        return AmpSettings(device_type)
    wanted = cfg.SOLVER.AMP.DTYPE
    if wanted in DTYPES:
        return AmpSettings(device_type, DTYPES[wanted])
    if wanted != "auto":
        raise ValueError(f"SOLVER.AMP.DTYPE is {wanted!r}; choose one of auto, {', '.join(DTYPES)}.")
    if device_type == "cuda":
        return AmpSettings(device_type, torch.float16)
    if device_type == "cpu" and computes_bfloat16():
        return AmpSettings(device_type, torch.bfloat16)
    logger.info("SOLVER.AMP: this %s has no fast half precision, so training computes in float32.", device_type)
    return AmpSettings(device_type)
