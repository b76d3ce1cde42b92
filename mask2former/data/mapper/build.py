"""Choose the mapper of a data set."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from mask2former.data.mapper.clips import ClipMapper
from mask2former.data.mapper.mapper import Mapper
from mask2former.data.mapper.whole_images import ClassMapper

VIDEO_EVALUATOR = "ytvis"
CLASS_EVALUATOR = "image_classes"


def is_video(name: str) -> bool:
    """Tell whether a registered data set is of videos: its metadata has the evaluator_type ytvis, as published."""
    return MetadataCatalog.get(name).get("evaluator_type") == VIDEO_EVALUATOR


def build_mapper(cfg: CfgNode, is_train: bool, names: tuple[str, ...] | list[str]) -> Mapper | ClassMapper:
    """Build the mapper for data sets: clips where they are of videos, whole images where these have classes alone.

    INPUT.DATASET_MAPPER_NAME is for images with masks.

    Raises:
        ValueError: the sets are not all of one kind.
    """
    kinds = {name: MetadataCatalog.get(name).get("evaluator_type") for name in names}
    videos = [name for name, kind in kinds.items() if kind == VIDEO_EVALUATOR]
    classes = [name for name, kind in kinds.items() if kind == CLASS_EVALUATOR]
    if videos and len(videos) < len(names):
        raise ValueError(
            f"DATASETS: {videos} are of videos and {[n for n in names if n not in videos]} of images, which cannot be "
            "in one batch. Name sets of one kind; an annotation file lists images as videos of one frame."
        )
    if classes and len(classes) < len(names):
        raise ValueError(
            f"DATASETS: {classes} have classes of whole images and {[n for n in names if n not in classes]} masks. "
            "Name sets of one kind."
        )
    if classes:
        return ClassMapper(cfg, is_train)
    return (ClipMapper if videos else Mapper)(cfg, is_train)
