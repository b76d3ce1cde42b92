"""A mask that comes with an image, encoded and added to the backbone's features: it says which objects are meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS = 2  # of a guide: marked, and not marked though a mask was given


class MaskEncoder(nn.Module):
    """A few convolutions over the mask, down to each stride of the features, whose results are added to them.

    They have no biases, and the last ones begin at zero. So an image without a mask has the plain model's features
    exactly, always, and one with a mask has them at the beginning of the training.

    Args:
        input_shape: channels and stride of the features that are added to; each stride is a multiple of the one before.
        channels: channels of the encoded mask.

    Raises:
        ValueError: strides that are not such multiples.
    """

    @configurable
    def __init__(self, input_shape: Mapping[str, ShapeSpec], *, channels: int) -> None:
        super().__init__()
        self.names = sorted(input_shape, key=lambda name: input_shape[name].stride or 0)
        self.steps, self.additions = nn.ModuleList(), nn.ModuleList()
        self.ratios: list[int] = []  # of each stride to the one before
        width, before = CHANNELS, 1
        for name in self.names:
            shape = input_shape[name]
            stride, wanted = shape.stride or 0, shape.channels or 0
            if stride <= before or stride % before:
                raise ValueError(
                    f"MODEL.MASK_ENCODER needs features whose strides are multiples of each other; {name} has {stride} "
                    f"after {before}."
                )
            ratio, before = stride // before, stride
            self.ratios.append(ratio)
            self.steps.append(
                nn.Sequential(
                    nn.Conv2d(width, channels, ratio, stride=ratio, bias=False),
                    nn.ReLU(),
                    nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                    nn.ReLU(),
                )
            )
            self.additions.append(nn.Conv2d(channels, wanted, 1, bias=False))
            width = channels
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        for parameter in self.additions.parameters():
            nn.init.zeros_(parameter)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        # The features that the head reads; others, such as a stem's, would only cost time.
        names = [name for name in cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES if name in input_shape]
        shapes = {name: input_shape[name] for name in names}
        return {"input_shape": shapes, "channels": cfg.MODEL.MASK_ENCODER.CHANNELS}

    def forward(self, features: Mapping[str, Tensor], guide: Tensor) -> dict[str, Tensor]:
        """Return the features with the encoded mask added.

        Args:
            features: [B, C, H / stride, W / stride] by name.
            guide: [B, 2, H, W] float; see :func:`make_guide`.
        """
        result, encoded = dict(features), guide
        for name, ratio, step, addition in zip(self.names, self.ratios, self.steps, self.additions, strict=True):
            size = features[name].shape[-2:]
            # Backbones round up where a side is no multiple of the stride.
            missing = [max(0, wanted * ratio - side) for wanted, side in zip(size, encoded.shape[-2:], strict=True)]
            encoded = step(F.pad(encoded, (0, missing[1], 0, missing[0])))
            encoded = encoded[..., : size[0], : size[1]]
            result[name] = features[name] + addition(encoded).to(features[name].dtype)
        return result


def make_guide(
    masks: Sequence[Tensor | None], sizes: Sequence[tuple[int, int]], padded: tuple[int, int], device: torch.device
) -> Tensor:
    """Return the guide of a batch, [B, 2, H, W] float32: what is marked and what is not; zeros without a mask.

    Args:
        masks: [h, w] of each image, nonzero where it marks; None: no mask.
        sizes: (h, w) of each image before padding.
        padded: (H, W).
    """
    guide = torch.zeros(len(masks), CHANNELS, *padded, device=device)
    for of_image, mask, (height, width) in zip(guide, masks, sizes, strict=True):
        if mask is not None:
            marked = (mask.to(device) != 0).float()
            of_image[0, :height, :width] = marked
            of_image[1, :height, :width] = 1 - marked
    return guide
