"""The model. Importing it registers its parts in Detectron2's registries."""

from mask2former.modeling.backbone import D2AxialResNet, D2ConvNeXt, D2SwinTransformer, PlainViT, TimmBackbone
from mask2former.modeling.eomt import EoMT
from mask2former.modeling.kmax import (
    LocatedkMaXDecoder,
    kMaXDeepLab,
    kMaXDeepLabHead,
    kMaXPixelDecoder,
    kMaXTransformerDecoder,
)
from mask2former.modeling.losses.insdis import InsDisLoss, PairwiseInsDisLoss
from mask2former.modeling.losses.places import PlaceLoss
from mask2former.modeling.losses.pq_terms import MaskIDLoss, PQClassLoss, PQMaskLoss
from mask2former.modeling.losses.sampled_semantic import SampledSemanticLoss, SemanticLoss
from mask2former.modeling.max_deeplab import D2MaXDeepLab, MaXDeepLab, MaXDeepLabHead
from mask2former.modeling.meta_arch import (
    ImageClassifier,
    MaskFormer,
    MaskFormerHead,
    PerPixelBaselineHead,
    PerPixelBaselinePlusHead,
)
from mask2former.modeling.pixel_decoder import (
    BasePixelDecoder,
    MSDeformAttnPixelDecoder,
    TransformerEncoderPixelDecoder,
)
from mask2former.modeling.pq_criterion import PQCriterion
from mask2former.modeling.pq_matcher import PQMatcher
from mask2former.modeling.segvit import (
    AttentionToMaskCascade,
    AttentionToMaskDecoder,
    ClassMatcher,
    ProjectingPixelDecoder,
    QueryUpsamplingPixelDecoder,
)
from mask2former.modeling.transformer_decoder import (
    TRANSFORMER_DECODER_REGISTRY,
    LocatedQueryDecoder,
    MultiScaleMaskedTransformerDecoder,
    StandardTransformerDecoder,
)
from mask2former.modeling.video import VideoMaskFormer, VideoMultiScaleMaskedTransformerDecoder

__all__ = [
    "TRANSFORMER_DECODER_REGISTRY",
    "AttentionToMaskCascade",
    "AttentionToMaskDecoder",
    "BasePixelDecoder",
    "ClassMatcher",
    "D2AxialResNet",
    "D2ConvNeXt",
    "D2MaXDeepLab",
    "D2SwinTransformer",
    "EoMT",
    "ImageClassifier",
    "InsDisLoss",
    "LocatedQueryDecoder",
    "LocatedkMaXDecoder",
    "MSDeformAttnPixelDecoder",
    "MaXDeepLab",
    "MaXDeepLabHead",
    "MaskFormer",
    "MaskFormerHead",
    "MaskIDLoss",
    "MultiScaleMaskedTransformerDecoder",
    "PQClassLoss",
    "PQCriterion",
    "PQMaskLoss",
    "PQMatcher",
    "PairwiseInsDisLoss",
    "PerPixelBaselineHead",
    "PerPixelBaselinePlusHead",
    "PlaceLoss",
    "PlainViT",
    "ProjectingPixelDecoder",
    "QueryUpsamplingPixelDecoder",
    "SampledSemanticLoss",
    "SemanticLoss",
    "StandardTransformerDecoder",
    "TimmBackbone",
    "TransformerEncoderPixelDecoder",
    "VideoMaskFormer",
    "VideoMultiScaleMaskedTransformerDecoder",
    "kMaXDeepLab",
    "kMaXDeepLabHead",
    "kMaXPixelDecoder",
    "kMaXTransformerDecoder",
]
