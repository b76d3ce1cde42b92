"""Mask2Former, universal image segmentation, as a Detectron2 extension.

``import mask2former`` registers the meta-architecture, heads, decoders and backbones in Detectron2's registries. It
registers the data sets too, as Detectron2 does with its own: below the folder that the environment variable
``DETECTRON2_DATASETS`` names, or else "datasets". :func:`mask2former.data.register_all` moves them elsewhere.
"""

import importlib
import warnings
from typing import TYPE_CHECKING, Any

from mask2former import compat

compat.apply()  # an unpatched Detectron2 0.6 needs this before anything imports one of its submodules

with warnings.catch_warnings():
    # Detectron2 scripts some functions while it is imported. PyTorch warns of it, and users can do nothing about it.
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
    from mask2former import drop_in, modeling
    from mask2former.config import add_maskformer2_config, add_maskformer2_video_config
    from mask2former.data.datasets import register_at_import
    from mask2former.modeling import MaskFormer, VideoMaskFormer

register_at_import()
drop_in.install()

if TYPE_CHECKING:
    from mask2former.data.dataset_mappers import (
        COCOInstanceNewBaselineDatasetMapper,
        COCOPanopticNewBaselineDatasetMapper,
        MaskFormerInstanceDatasetMapper,
        MaskFormerPanopticDatasetMapper,
        MaskFormerSemanticDatasetMapper,
        YTVISDatasetMapper,
    )
    from mask2former.evaluation.instance import InstanceSegEvaluator
    from mask2former.evaluation.tta import SemanticSegmentorWithTTA
    from mask2former.evaluation.video import YTVISEvaluator
    from mask2former.predictor import Predictor

__version__ = "0.1.0"
__all__ = [
    "COCOInstanceNewBaselineDatasetMapper",
    "COCOPanopticNewBaselineDatasetMapper",
    "InstanceSegEvaluator",
    "MaskFormer",
    "MaskFormerInstanceDatasetMapper",
    "MaskFormerPanopticDatasetMapper",
    "MaskFormerSemanticDatasetMapper",
    "Predictor",
    "SemanticSegmentorWithTTA",
    "VideoMaskFormer",
    "YTVISDatasetMapper",
    "YTVISEvaluator",
    "__version__",
    "add_maskformer2_config",
    "add_maskformer2_video_config",
    "modeling",
]

_ON_DEMAND = {
    "COCOInstanceNewBaselineDatasetMapper": "mask2former.data.dataset_mappers",
    "COCOPanopticNewBaselineDatasetMapper": "mask2former.data.dataset_mappers",
    "InstanceSegEvaluator": "mask2former.evaluation.instance",
    "MaskFormerInstanceDatasetMapper": "mask2former.data.dataset_mappers",
    "MaskFormerPanopticDatasetMapper": "mask2former.data.dataset_mappers",
    "MaskFormerSemanticDatasetMapper": "mask2former.data.dataset_mappers",
    "Predictor": "mask2former.predictor",
    "SemanticSegmentorWithTTA": "mask2former.evaluation.tta",
    "YTVISDatasetMapper": "mask2former.data.dataset_mappers",
    "YTVISEvaluator": "mask2former.evaluation.video",
}


def __getattr__(name: str) -> Any:
    """Import a name of ``_ON_DEMAND`` when it is first used: building a model needs none of them."""
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_ON_DEMAND[name]), name)
