"""Detectron2's ResNet at inference on a CPU: the same numbers, less memory traffic."""

from __future__ import annotations

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, BottleneckBlock, ResNet
from torch import Tensor, nn
from torch.nn import functional as F


def is_foldable(backbone: nn.Module, images: Tensor) -> bool:
    """Whether :func:`folded_resnet` may stand in for ``backbone(images)``.

    Not where gradients or somebody who follows the modules' calls (tracing, compiling, hooks) want the network as it
    is built, and not on a GPU, where nothing of this has been measured.
    """
    if torch.is_grad_enabled() or images.device.type != "cpu" or not _has_operators(images):
        return False
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return False
    if type(backbone) is not ResNet or type(backbone.stem) is not BasicStem or backbone.num_classes is not None:
        return False
    blocks = [block for stage in backbone.stages for block in stage]
    if any(type(block) not in (BasicBlock, BottleneckBlock) for block in blocks):
        return False
    return all(_is_plain(module) for module in backbone.modules())


def _has_operators(images: Tensor) -> bool:
    """oneDNN's fused convolutions are PyTorch's own affair: a build may lack them, and they know no float64."""
    mkldnn = torch.backends.mkldnn
    if not mkldnn.is_available() or not mkldnn.enabled or images.dtype != torch.float32:
        return False
    return all(hasattr(torch.ops.mkldnn, name) for name in ("_convolution_pointwise", "_convolution_pointwise_"))


def _is_plain(module: nn.Module) -> bool:
    if module._forward_hooks or module._forward_pre_hooks:
        return False
    if not isinstance(module, nn.Conv2d):
        return True
    if type(module) is not Conv2d or module.bias is not None or module.activation is not None:
        return False
    norm = module.norm
    return isinstance(norm, FrozenBatchNorm2d) or (
        isinstance(norm, nn.BatchNorm2d) and not norm.training and norm.affine and norm.track_running_stats
    )


def folded_resnet(resnet: ResNet, images: Tensor) -> dict[str, Tensor]:
    """Features [B, C, H, W] by name, of images [B, 3, H, W].

    Batch normalisation is folded into the convolution before it, ReLU and the sum with the shortcut are done while the
    convolution writes its result, and pixels lie in memory channel by channel. Weights are folded anew each time: that
    takes 1 % of the pass, and nothing can go stale when they change.
    """
    if torch.is_autocast_enabled("cpu"):
        images = images.to(torch.get_autocast_dtype("cpu"))
    x = images.contiguous(memory_format=torch.channels_last)
    x = F.max_pool2d(_convolve(resnet.stem.conv1, x, "relu"), kernel_size=3, stride=2, padding=1)
    features = {"stem": x} if "stem" in resnet._out_features else {}
    for name, stage in zip(resnet.stage_names, resnet.stages, strict=True):
        for block in stage:
            x = _block(block, x, reusable=all(x is not kept for kept in features.values()))
        if name in resnet._out_features:
            features[name] = x
    return features


def _block(block: BasicBlock | BottleneckBlock, x: Tensor, *, reusable: bool) -> Tensor:
    """``reusable``: the result may be written over ``x``."""
    inner = _convolve(block.conv1, x, "relu")
    last = block.conv2
    if isinstance(block, BottleneckBlock):
        inner, last = _convolve(block.conv2, inner, "relu"), block.conv3
    if block.shortcut is not None:
        x = _convolve(block.shortcut, x, "none")
    elif not reusable:
        x = x.clone()
    weight, bias = _folded(last, x.dtype)
    arguments = (last.padding, last.stride, last.dilation, last.groups)
    pointwise = torch.ops.mkldnn._convolution_pointwise_.binary
    return pointwise(x, inner, weight, bias, *arguments, "add", 1.0, "relu", [], "")


def _convolve(conv: Conv2d, x: Tensor, activation: str) -> Tensor:
    weight, bias = _folded(conv, x.dtype)
    arguments = (conv.padding, conv.stride, conv.dilation, conv.groups)
    return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *arguments, activation, [], "")


def _folded(conv: Conv2d, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    norm = conv.norm
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    weight = (conv.weight * scale[:, None, None, None]).to(dtype, memory_format=torch.channels_last)
    return weight, (norm.bias - norm.running_mean * scale).to(dtype)
