"""Meta-architectures and heads, which join backbone, pixel decoder and transformer decoder into one model."""

from mask2former.modeling.meta_arch.batch import Batch
from mask2former.modeling.meta_arch.further_parts import refuse_parts_from_config
from mask2former.modeling.meta_arch.image_classifier import ImageClassifier
from mask2former.modeling.meta_arch.mask_former import MaskFormer
from mask2former.modeling.meta_arch.mask_former_head import MaskFormerHead
from mask2former.modeling.meta_arch.per_pixel_baseline import PerPixelBaselineHead, PerPixelBaselinePlusHead
from mask2former.modeling.meta_arch.predicts_masks import PredictsMasks, WithSettings, require_finite, unwrapped
from mask2former.modeling.meta_arch.segmentation_model import SegmentationModel

__all__ = [
    "Batch",
    "ImageClassifier",
    "MaskFormer",
    "MaskFormerHead",
    "PerPixelBaselineHead",
    "PerPixelBaselinePlusHead",
    "PredictsMasks",
    "SegmentationModel",
    "WithSettings",
    "refuse_parts_from_config",
    "require_finite",
    "unwrapped",
]
