"""The meta-architecture of kMaX-DeepLab."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY

from mask2former.config.kmax import as_house_keys
from mask2former.modeling.meta_arch import MaskFormer

_UNDECAYED = ("_rpe", "_cluster_centers")


@META_ARCH_REGISTRY.register()
class kMaXDeepLab(MaskFormer):
    """kMaX-DeepLab (arXiv 2207.04044): MaskFormer's parts, on canvases whose sides are multiples plus 1.

    The sides of the features are then multiples plus 1 too, and corners are aligned wherever a map is resized.
    ``MODEL.MASK_FORMER.SIZE_DIVISIBILITY`` 1280 is the published canvas of 1281 x 1281 pixels, for small images too; 32
    is the least.
    """

    size_offset = 1

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        arguments = super().from_config(as_house_keys(cfg))
        settings = arguments["post_processing"]
        # Instances have the same masks as segments. The demo begins with the score that things need.
        arguments["post_processing"] = replace(
            settings, instance_mask_threshold=settings.maskwise.pixel, object_mask_threshold=settings.maskwise.thing
        )
        return arguments

    def undecayed(self, parameter_name: str) -> bool:
        """Tell whether a parameter has no weight decay: biases, factors of layers, positions and cluster centres."""
        module, _, own = parameter_name.rpartition(".")
        return "bias" in own or "gamma" in own or any(part in module for part in _UNDECAYED)
