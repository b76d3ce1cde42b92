"""Feature backbones of timm (pytorch-image-models) by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn

STRIDES = (4, 8, 16, 32)  # strides of the default levels


class ImageForm(NamedTuple):
    """The form of a network's images: channel order, and each channel's mean and deviation, of values up to 255."""

    order: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


@BACKBONE_REGISTRY.register()
class TimmBackbone(Backbone):
    """The feature pyramid of a timm model: ConvNeXt, DINOv3's ConvNeXt, Swin, EfficientNet, ResNets and many others.

    A feature of stride 2 ** i is named ``res<i>``: strides 4, 8, 16, 32 are res2, res3, res4, res5. Channels and
    strides are those that timm reports.

    Args:
        name: timm's name, such as "convnext_tiny.fb_in22k" or "hf-hub:...".
        pretrained: load the weights of that name, which timm downloads and caches.
        out_indices: indices of timm's levels; (): those of strides 4 to 32.
        freeze_norm: freeze the statistics and parameters of batch normalisation.
        arguments: further arguments of ``timm.create_model``, such as ``drop_path_rate`` or ``img_size``.
        images: the form of the images; checked against timm's facts where weights of timm's are loaded.

    Raises:
        ModuleNotFoundError: timm is not installed.
        ValueError: timm has no features for this model, or they do not form a pyramid: two levels share a stride, as in
            a plain ViT, or a stride is not a power of 2.
    """

    @configurable
    def __init__(
        self,
        name: str,
        *,
        pretrained: bool,
        out_indices: Sequence[int] = (),
        freeze_norm: bool = False,
        arguments: Mapping[str, Any] | None = None,
        images: ImageForm | None = None,
    ) -> None:
        super().__init__()
        self.net = _create(name, pretrained, out_indices, arguments or {})
        self.name, self.images = name, images
        self.trained_on = _trained_on(self.net)
        if pretrained:
            self.check_images()
        if freeze_norm:
            from timm.layers import freeze_batch_norm_2d

            self.net = freeze_batch_norm_2d(self.net)
        info: Any = self.net.feature_info
        strides = info.reduction()
        self._names = [f"res{stride.bit_length() - 1}" for stride in strides]
        self._channels_last = getattr(self.net, "output_fmt", None) == "NHWC"
        self._shapes = {
            feature: ShapeSpec(channels=channels, stride=stride)
            for feature, channels, stride in zip(self._names, info.channels(), strides, strict=True)
            if out_indices or stride in STRIDES
        }

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        node = cfg.MODEL.TIMM
        return {
            "name": node.NAME,
            "pretrained": node.PRETRAINED and not cfg.MODEL.WEIGHTS,
            "out_indices": node.OUT_INDICES,
            "freeze_norm": node.FREEZE_NORM,
            "arguments": {"in_chans": input_shape.channels, **node.ARGUMENTS},
            "images": ImageForm(cfg.INPUT.FORMAT, tuple(cfg.MODEL.PIXEL_MEAN), tuple(cfg.MODEL.PIXEL_STD)),
        }

    def check_images(self) -> None:
        """Compare the form of the images with that which timm's weights were trained on.

        Raises:
            ValueError: they differ, by more than 1 of 255 in mean or deviation.
        """
        if self.images is None or self.trained_on is None:
            return
        order, mean, std = self.images
        wanted = self.trained_on
        differs = [abs(a - b) > 1 for a, b in zip(mean + std, wanted.mean + wanted.std, strict=True)]
        if order != wanted.order or any(differs):
            raise ValueError(
                f"timm's weights of {self.name} were trained on {wanted.order} images with mean "
                f"{[round(x, 3) for x in wanted.mean]} and deviation {[round(x, 3) for x in wanted.std]}; found "
                f"INPUT.FORMAT {order}, MODEL.PIXEL_MEAN {list(mean)}, MODEL.PIXEL_STD {list(std)}. Set those three, "
                "or begin with random weights (MODEL.TIMM.PRETRAINED False, no MODEL.WEIGHTS)."
            )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute features [B, C, ceil(H / stride), ceil(W / stride)] by name from images [B, 3, H, W].

        Some models need sizes that are multiples of 32.
        """
        features = dict(zip(self._names, self.net(x), strict=True))
        return {
            name: features[name].permute(0, 3, 1, 2).contiguous() if self._channels_last else features[name]
            for name in self._shapes
        }

    def output_shape(self) -> dict[str, ShapeSpec]:
        return dict(self._shapes)

    @property
    def size_divisibility(self) -> int:
        return max(shape.stride for shape in self._shapes.values())


def _trained_on(net: nn.Module) -> ImageForm | None:
    """Return the form of the images that timm's weights were trained on; None if timm does not say."""
    facts: Any = getattr(net, "pretrained_cfg", None) or {}
    if not {"mean", "std"} <= set(facts):
        return None
    mean, std = (tuple(255 * x for x in facts[key]) for key in ("mean", "std"))
    return ImageForm("RGB", mean, std)  # all of timm's are RGB


def _create(name: str, pretrained: bool, out_indices: Sequence[int], arguments: Mapping[str, Any]) -> nn.Module:
    """Create the timm model with features only, and check that its features form a pyramid."""
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "MODEL.BACKBONE.NAME is TimmBackbone, which needs timm: pip install timm, or mask2former[timm]."
        ) from error
    levels: dict[str, Any] = {"out_indices": tuple(out_indices)} if out_indices else {}
    try:
        net: Any = timm.create_model(name, pretrained=pretrained, features_only=True, **levels, **arguments)
    except (RuntimeError, AttributeError, AssertionError, TypeError, IndexError) as error:
        raise ValueError(
            f"timm cannot give features of MODEL.TIMM.NAME {name!r} (OUT_INDICES {list(out_indices)}, ARGUMENTS "
            f"{dict(arguments)}): {error}"
        ) from error
    strides = net.feature_info.reduction()
    if sorted(set(strides)) != sorted(strides) or any(stride & (stride - 1) for stride in strides):
        raise ValueError(
            f"The features of MODEL.TIMM.NAME {name!r} have strides {strides}, not a pyramid's: each has to be a "
            "different power of 2. A plain ViT has one stride only; hierarchical ones (ConvNeXt, DINOv3's among them, "
            "Swin, Hiera, MViTv2, PVTv2) have strides 4, 8, 16 and 32."
        )
    return net
