"""Detectron2's ResNet on a CPU, at inference or with frozen normalisation: same results, less memory traffic."""

from __future__ import annotations

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, BottleneckBlock, ResNet
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.modeling.cpu.convolution import LaidOutConv2d
from mask2former.modeling.cpu.fused_block import (
    FusedBlock,
    convolutions,
    convolve,
    convolve_and_add_,
    folded,
    main_path,
)
from mask2former.modeling.cpu.laid_out_resnet import can_lay_out, laid_out_resnet
from mask2former.processor import fuses_convolutions

_LEARNT_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)  # the latter on several GPUs, and kMaX-DeepLab's


class FusedResNet(ResNet):
    """Run :func:`fused_resnet` where :func:`can_fuse` allows it, else in training :func:`laid_out_resnet`.

    Training step of R50 alone, two 512 x 512 images: 3.41 s for 3.91, 625 MiB for 783; channels_last without folding
    takes 3.91 s and 677 MiB (AMD EPYC, one thread).
    """

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        if can_fuse(self, x):
            return fused_resnet(self, x)
        return laid_out_resnet(self, x) if can_lay_out(self, x) else super().forward(x)


def can_fuse(backbone: nn.Module, images: Tensor) -> bool:
    """Tell whether :func:`fused_resnet` may replace the ``forward`` of ``backbone``.

    It may not where normalisation learns or uses batch statistics, where calls of inner modules are observed (tracing,
    compiling, hooks) or changed (activation checkpointing), nor on a GPU, where it has not been measured.
    """
    if images.device.type != "cpu" or images.dtype != torch.float32:
        return False
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return False
    if type(backbone) not in (ResNet, FusedResNet) or type(backbone.stem) is not BasicStem:
        return False
    if backbone.num_classes is not None:
        return False
    blocks = [block for stage in backbone.stages for block in stage]
    if any(type(block) not in (BasicBlock, BottleneckBlock) for block in blocks):
        return False
    if not all(_is_plain(module) for module in backbone.modules() if module is not backbone):
        return False
    autocast = torch.is_autocast_enabled("cpu")
    return fuses_convolutions(torch.get_autocast_dtype("cpu") if autocast else images.dtype)


def _is_plain(module: nn.Module) -> bool:
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    if any(hooks) or "forward" in vars(module):
        return False
    if not isinstance(module, nn.Conv2d):
        return True
    if type(module) not in (Conv2d, LaidOutConv2d) or module.bias is not None or module.activation is not None:
        return False
    norm = module.norm
    if isinstance(norm, FrozenBatchNorm2d):
        return True
    fixed = isinstance(norm, _LEARNT_NORMS) and not norm.training and not torch.is_grad_enabled()
    return fixed and norm.affine and norm.track_running_stats


def fused_resnet(resnet: ResNet, images: Tensor) -> dict[str, Tensor]:
    """Compute features [B, C, H, W] by name from images [B, 3, H, W].

    Batch normalisation is folded into the convolution before it, and all data is in the ``channels_last`` layout. ReLU
    and the sum with the shortcut are done while the convolution writes its result. Weights are folded on every call:
    that takes 1 % of the pass, and nothing can become stale when they change. For small images it would take half of
    the pass; their convolutions go :mod:`another way <mask2former.modeling.cpu.few_positions>`.
    """
    if torch.is_autocast_enabled("cpu"):
        images = images.to(torch.get_autocast_dtype("cpu"))
    x = _stem(resnet.stem.conv1, images.contiguous(memory_format=torch.channels_last))
    features = {"stem": x} if "stem" in resnet._out_features else {}
    for name, stage in zip(resnet.stage_names, resnet.stages, strict=True):
        for block in stage:
            x = _block(block, x, reusable=all(x is not kept for kept in features.values()))
        if name in resnet._out_features:
            features[name] = x
    return features


def _stem(conv: Conv2d, x: Tensor) -> Tensor:
    if torch.is_grad_enabled():  # the fused operator has no derivative
        x = F.conv2d(x, *folded(conv, x.dtype), conv.stride, conv.padding, conv.dilation, conv.groups).relu_()
    else:
        x = convolve(conv, x, "relu")
    return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


def _block(block: BasicBlock | BottleneckBlock, x: Tensor, *, reusable: bool) -> Tensor:
    """Run one block; if ``reusable``, the result may be written over ``x`` (without gradients)."""
    if torch.is_grad_enabled():
        return FusedBlock.apply(block, x, *(conv.weight for conv in convolutions(block)))
    *first, last = main_path(block)
    inner = x
    for conv in first:
        inner = convolve(conv, inner, "relu")
    if block.shortcut is not None:
        x = convolve(block.shortcut, x, "none")
    elif not reusable:
        x = x.clone()
    return convolve_and_add_(last, inner, x)
