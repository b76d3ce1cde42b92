"""Semantic, panoptic and instance results from one image's (class distribution, mask) pairs.

Each result first chooses its queries. Masks are then computed in chunks, a few rows of the image at a time, once for
all results together, so that Q masks at full size never exist.
"""

from mask2former.modeling.postprocess.clip_settings import JOINT, MINVIS, TRACKER, WINDOWS, ClipSettings, Windows
from mask2former.modeling.postprocess.instance import InstanceAccumulator
from mask2former.modeling.postprocess.mask_source import MaskSource, ResizedMasks
from mask2former.modeling.postprocess.maskwise import MaskwiseMerger
from mask2former.modeling.postprocess.panoptic import PANOPTIC_RULE_REGISTRY, PanopticMerger
from mask2former.modeling.postprocess.results import object_results, post_process, semantic_scores
from mask2former.modeling.postprocess.semantic import SemanticLabels, SemanticScores
from mask2former.modeling.postprocess.settings import PostProcessing
from mask2former.modeling.postprocess.single import instance_inference, panoptic_inference, semantic_inference
from mask2former.modeling.postprocess.streaming import ResultAccumulator, stream_masks
from mask2former.modeling.postprocess.thresholds import MaskwiseThresholds, TwoArgmaxThresholds
from mask2former.modeling.postprocess.tracks import FrameMasks, track_results
from mask2former.modeling.postprocess.two_argmax import TwoArgmaxMerger

__all__ = [
    "JOINT",
    "MINVIS",
    "PANOPTIC_RULE_REGISTRY",
    "TRACKER",
    "WINDOWS",
    "ClipSettings",
    "FrameMasks",
    "InstanceAccumulator",
    "MaskSource",
    "MaskwiseMerger",
    "MaskwiseThresholds",
    "PanopticMerger",
    "PostProcessing",
    "ResizedMasks",
    "ResultAccumulator",
    "SemanticLabels",
    "SemanticScores",
    "TwoArgmaxMerger",
    "TwoArgmaxThresholds",
    "Windows",
    "instance_inference",
    "object_results",
    "panoptic_inference",
    "post_process",
    "semantic_inference",
    "semantic_scores",
    "stream_masks",
    "track_results",
]
