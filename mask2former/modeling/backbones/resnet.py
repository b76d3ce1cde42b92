"""Detectron2's ResNet on a CPU, at inference or with frozen normalisation: the same numbers, less memory traffic."""

from __future__ import annotations

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, BottleneckBlock, ResNet
from torch import Tensor, nn
from torch.nn import functional as F

# What tells whether oneDNN convolves in half precision on this processor.
_SUPPORTED = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}


def is_foldable(backbone: nn.Module, images: Tensor) -> bool:
    """Whether :func:`folded_resnet` may stand in for ``backbone(images)``.

    Not where normalisation learns or takes the statistics of the batch, not where somebody follows the modules' calls
    (tracing, compiling, hooks) or has changed them (activation checkpointing), and not on a GPU, where nothing of this
    has been measured.
    """
    if images.device.type != "cpu" or not _has_operators(images):
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
    needed = ["_convolution_pointwise", "_convolution_pointwise_"]
    if torch.is_autocast_enabled("cpu"):
        supported = _SUPPORTED[torch.get_autocast_dtype("cpu")]
        if not hasattr(torch.ops.mkldnn, supported) or not getattr(torch.ops.mkldnn, supported)():
            return False
    return all(hasattr(torch.ops.mkldnn, name) for name in needed)


def _is_plain(module: nn.Module) -> bool:
    if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
        return False
    if not isinstance(module, nn.Conv2d):
        return True
    if type(module) is not Conv2d or module.bias is not None or module.activation is not None:
        return False
    norm = module.norm
    if isinstance(norm, FrozenBatchNorm2d):
        return True
    fixed = isinstance(norm, nn.BatchNorm2d) and not norm.training and not torch.is_grad_enabled()
    return fixed and norm.affine and norm.track_running_stats


def folded_resnet(resnet: ResNet, images: Tensor) -> dict[str, Tensor]:
    """Features [B, C, H, W] by name, of images [B, 3, H, W].

    Batch normalisation is folded into the convolution before it, and pixels lie in memory channel by channel. Without
    gradients, ReLU and the sum with the shortcut are done while the convolution writes its result; with them, in place.
    Weights are folded anew each time: that takes 1 % of the pass, and nothing can go stale when they change.
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
    elif not (reusable or torch.is_grad_enabled()):
        x = x.clone()
    if torch.is_grad_enabled():
        return _plain_convolution(last, inner).add_(x).relu_()
    weight, bias = _folded(last, x.dtype)
    arguments = (last.padding, last.stride, last.dilation, last.groups)
    pointwise = torch.ops.mkldnn._convolution_pointwise_.binary
    return pointwise(x, inner, weight, bias, *arguments, "add", 1.0, "relu", [], "")


def _convolve(conv: Conv2d, x: Tensor, activation: str) -> Tensor:
    if torch.is_grad_enabled():  # which the fused operator does not have
        result = _plain_convolution(conv, x)
        return result.relu_() if activation == "relu" else result
    weight, bias = _folded(conv, x.dtype)
    arguments = (conv.padding, conv.stride, conv.dilation, conv.groups)
    return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *arguments, activation, [], "")


def _plain_convolution(conv: Conv2d, x: Tensor) -> Tensor:
    return F.conv2d(x, *_folded(conv, x.dtype), conv.stride, conv.padding, conv.dilation, conv.groups)


def _folded(conv: Conv2d, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    norm = conv.norm
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    weight = (conv.weight * scale[:, None, None, None]).to(dtype, memory_format=torch.channels_last)
    return weight, (norm.bias - norm.running_mean * scale).to(dtype)
