"""Detectron2's ResNet in training on a CPU: each stage in the memory layout in which its convolutions are faster."""

from __future__ import annotations

import torch
from detectron2.layers import CNNBlockBase
from detectron2.modeling.backbone.resnet import ResNet
from torch import Tensor

from mask2former.processor import fuses_convolutions


def can_lay_out(backbone: ResNet, images: Tensor) -> bool:
    """Tell whether :func:`laid_out_resnet` may replace the ``forward`` of ``backbone`` and gains something.

    It may not while a graph is recorded, which would hold the choice of layouts for one size; it was measured in
    float32.
    """
    if images.device.type != "cpu" or images.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return False
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return False
    return torch.is_grad_enabled() and backbone.num_classes is None and fuses_convolutions(images.dtype)


def laid_out_resnet(resnet: ResNet, images: Tensor) -> dict[str, Tensor]:
    """Compute features [B, C, H, W] by name from images [B, 3, H, W], which equal the plain ones but for rounding.

    ``channels_last`` makes pooling, normalisation and what reads the features faster, and convolutions about as fast.
    But weights keep PyTorch's layout, so that checkpoints and optimisers see nothing of this, and are converted on
    each call. That costs more than it gains where a stage has more channels than positions in the whole batch.

    R18 with learnt normalisation, the quickstart's step, CPU s with one thread in turns, minimum of 7: 0.720 -> 0.652
    at 8x128x128 (all stages in ``channels_last``: 0.709), 1.255 -> 1.152 at 4x256x256.
    """
    x = resnet.stem(images.contiguous(memory_format=torch.channels_last))
    features = {"stem": x} if "stem" in resnet._out_features else {}
    for name, stage in zip(resnet.stage_names, resnet.stages, strict=True):
        x = stage(x.contiguous(memory_format=_layout(stage[0], x)))
        if name in resnet._out_features:
            features[name] = x
    return features


def _layout(first: CNNBlockBase, x: Tensor) -> torch.memory_format:
    """Choose the layout of a stage from its first block and input."""
    batch, _, height, width = x.shape
    positions = batch * height * width // first.stride**2  # of the stage's results
    return torch.channels_last if positions >= first.out_channels else torch.contiguous_format
