"""Mask2Former, universal image segmentation, as a Detectron2 extension.

``import mask2former`` registers the meta-architecture, heads, decoders and backbones in Detectron2's registries.
Data sets are registered by :func:`mask2former.data.register_all`, because their root is the caller's to say.
"""

import warnings
from typing import Any

from mask2former import compat

compat.apply()  # before anything imports a Detectron2 submodule

with warnings.catch_warnings():
    # Detectron2 scripts some functions while it is imported. PyTorch warns of that; its users can do nothing about it.
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
    from mask2former import modeling
    from mask2former.config import add_maskformer2_config

__version__ = "0.1.0"
__all__ = ["SemanticSegmentorWithTTA", "__version__", "add_maskformer2_config", "modeling"]


def __getattr__(name: str) -> Any:
    """``SemanticSegmentorWithTTA``, where the published system has it. Evaluation is imported only for it."""
    if name != "SemanticSegmentorWithTTA":
        raise AttributeError(f"module 'mask2former' has no attribute {name!r}")
    from mask2former.evaluation.tta import SemanticSegmentorWithTTA

    return SemanticSegmentorWithTTA
