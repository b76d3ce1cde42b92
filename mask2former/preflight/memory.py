"""Estimate the memory that training takes, and read the memory that is free."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import torch
from detectron2.config import CfgNode


class Size(NamedTuple):
    """The size of a network.

    Attributes:
        pixel_bytes: bytes kept until the backward pass for each pixel of a training image, in float32 (measured as the
            tensors that autograd saves in a forward pass on 384 x 384 pixels; 256 x 256 for "small").
        parameters: number of parameters.
    """

    pixel_bytes: int
    parameters: int


MODELS = {
    "small": Size(1100, 13_000_000),
    "r50": Size(3500, 44_000_000),
    "r101": Size(3900, 63_000_000),
    "swin": Size(5800, 47_000_000),
    "swin_small": Size(7800, 69_000_000),
    "swin_base": Size(10500, 107_000_000),
    "swin_large": Size(16300, 216_000_000),
}
STATE_BYTES = 16  # for each parameter: itself, its gradient, AdamW's two averages; float32
HALF = 0.6  # factor on the activations' bytes in mixed precision, where most but not all have 16 bits
WORK = 1.3  # factor for the loss and the backward pass's own memory
OUTSIDE = 1.5e9  # bytes: Python, PyTorch and its libraries


def training_bytes(cfg: CfgNode, images: int, pixels: int) -> float:
    """Estimate the peak memory of training, in bytes, on one device.

    Args:
        cfg: its network and number format count.
        images: number of images in a step on this device.
        pixels: number of pixels of an image as the network sees it.
    """
    size = MODELS[model_size(cfg)]
    half = HALF if cfg.SOLVER.AMP.ENABLED and cfg.MODEL.DEVICE.startswith("cuda") else 1.0
    return OUTSIDE + STATE_BYTES * size.parameters + WORK * half * size.pixel_bytes * images * pixels


def training_pixels(cfg: CfgNode) -> int:
    """Estimate the number of pixels of a training image as the network sees it."""
    inputs = cfg.INPUT
    if inputs.DATASET_MAPPER_NAME in ("kmax_panoptic", "max_deeplab_panoptic") and inputs.CANVAS:
        return int(inputs.CANVAS[0] * inputs.CANVAS[1])
    if inputs.DATASET_MAPPER_NAME.endswith(("lsj", "kmax_panoptic", "max_deeplab_panoptic")):
        return inputs.IMAGE_SIZE**2
    if inputs.CROP.ENABLED and inputs.CROP.TYPE == "absolute":
        return int(inputs.CROP.SIZE[0] * inputs.CROP.SIZE[1])
    return int(max(inputs.MIN_SIZE_TRAIN) ** 2 * 4 / 3)


def model_size(cfg: CfgNode) -> str:
    """Return the key of :data:`MODELS` that is most like the network."""
    if "Swin" in cfg.MODEL.BACKBONE.NAME:
        width, depth = cfg.MODEL.SWIN.EMBED_DIM, cfg.MODEL.SWIN.DEPTHS[2]
        if width >= 192:
            return "swin_large"
        return "swin_base" if width >= 128 else "swin_small" if depth > 6 else "swin"
    if cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM <= 128:
        return "small"
    return "r101" if cfg.MODEL.RESNETS.DEPTH > 50 else "r50"


def free_bytes(device: str) -> float:
    """Return the free memory in bytes: a GPU's, or this machine's within the limit of its container."""
    if device.startswith("cuda"):
        return float(torch.cuda.mem_get_info(torch.device(device))[0])
    return min(_machine(), _container())


def _machine() -> float:
    status = Path("/proc/meminfo")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _container() -> float:
    """Return the bytes left by cgroups, version 2 or 1; infinity without a limit. Cached files count as free."""
    for folder, limit, used in (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        files = [Path(folder, name) for name in (limit, used, "memory.stat")]
        if all(file.exists() for file in files):
            most, now, statistics = (file.read_text().strip() for file in files)
            kept = dict(line.split() for line in statistics.splitlines())
            of_files = float(kept.get("file", kept.get("cache", 0)))
            return float("inf") if most == "max" else max(0.0, float(most) - float(now) + of_files)
    return float("inf")
