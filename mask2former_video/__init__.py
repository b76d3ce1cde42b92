"""Import path of the published clip model; everything is in :mod:`mask2former`, which ``import`` registers."""

from detectron2.data import get_detection_dataset_dicts

from mask2former import VideoMaskFormer, YTVISDatasetMapper, YTVISEvaluator, add_maskformer2_video_config
from mask2former.data.loader import build_test_loader as build_detection_test_loader
from mask2former.data.loader import build_train_loader as build_detection_train_loader

__all__ = [
    "VideoMaskFormer",
    "YTVISDatasetMapper",
    "YTVISEvaluator",
    "add_maskformer2_video_config",
    "build_detection_test_loader",
    "build_detection_train_loader",
    "get_detection_dataset_dicts",
]
