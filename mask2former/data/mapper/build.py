"""Choose the mapper of a data set."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from mask2former.data.mapper.clips import ClipMapper
from mask2former.data.mapper.mapper import Mapper

VIDEO_EVALUATOR = "ytvis"


def is_video(name: str) -> bool:
    """Tell whether a registered data set is of videos: its metadata has the evaluator_type ytvis, as published."""
    return MetadataCatalog.get(name).get("evaluator_type") == VIDEO_EVALUATOR


def build_mapper(cfg: CfgNode, is_train: bool, names: tuple[str, ...] | list[str]) -> Mapper:
    """Build the mapper for data sets: clips where they are of videos; INPUT.DATASET_MAPPER_NAME is for images.

    Raises:
        ValueError: some are of videos and some of images.
    """
    videos = [name for name in names if is_video(name)]
    if videos and len(videos) < len(names):
        raise ValueError(
            f"DATASETS: {videos} are of videos and {[n for n in names if n not in videos]} of images, which cannot be "
            "in one batch. Name sets of one kind; an annotation file lists images as videos of one frame."
        )
    return (ClipMapper if videos else Mapper)(cfg, is_train)
