"""The data mappers of the published system: presets of :class:`mask2former.data.Mapper`, and that of clips.

They are built as published, ``MaskFormerSemanticDatasetMapper(cfg, is_train=True)``, and may be subclassed: override
``__call__``, or ``from_config`` and change what it returns (``augmentations``, ``image_format``). They return what
:class:`mask2former.data.Mapper` returns, except that ``gt_masks`` is a tensor, bool [N, H, W], as published.
"""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T
from detectron2.structures import BitMasks

from mask2former.data.mapper import ClipMapper, Mapper

__all__ = [
    "COCOInstanceNewBaselineDatasetMapper",
    "COCOPanopticNewBaselineDatasetMapper",
    "MaskFormerInstanceDatasetMapper",
    "MaskFormerPanopticDatasetMapper",
    "MaskFormerSemanticDatasetMapper",
    "YTVISDatasetMapper",
]


class _PublishedMapper(Mapper):
    """:class:`~mask2former.data.Mapper` with the published attributes.

    Attributes:
        is_train: read annotations and augment.
        tfm_gens: the augmentations, in order; may be set.
        img_format: "RGB" or "BGR".
        size_divisibility: one of the augmentations pads sides to a multiple of this, in pixels; -1: none does.
        ignore_label: label of pixels without a class in ``sem_seg``; None: the mapper returns no ``sem_seg``.
    """

    gives_labels = False

    @configurable
    def __init__(self, is_train: bool = True, *, size_divisibility: int = -1, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.is_train = is_train
        self.size_divisibility = size_divisibility

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        arguments = super().from_config(cfg, is_train)
        arguments |= {"is_train": is_train, "size_divisibility": cfg.INPUT.SIZE_DIVISIBILITY}
        if cls.gives_labels:
            arguments["ignore_label"] = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
        return arguments

    @property
    def tfm_gens(self) -> list[T.Augmentation]:
        return list(self.augmentations.augs)

    @tfm_gens.setter
    def tfm_gens(self, augmentations: list[T.Augmentation]) -> None:
        self.augmentations = T.AugmentationList(augmentations)

    @property
    def img_format(self) -> str:
        return self.image_format

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        result = super().__call__(dataset_dict)
        if "instances" in result and isinstance(result["instances"].gt_masks, BitMasks):
            result["instances"].gt_masks = result["instances"].gt_masks.tensor
        return result


class MaskFormerSemanticDatasetMapper(_PublishedMapper):
    """Mapper for semantic segmentation (an object is a class); resize and crop. Adds ``sem_seg`` [H, W] int64."""

    preset = "mask_former_semantic"
    gives_labels = True


class MaskFormerPanopticDatasetMapper(_PublishedMapper):
    """Mapper for panoptic segmentation (an object is a segment); resize and crop. Adds ``sem_seg`` [H, W] int64."""

    preset = "mask_former_panoptic"
    gives_labels = True


class MaskFormerInstanceDatasetMapper(_PublishedMapper):
    """Mapper for instance segmentation; resize and crop."""

    preset = "mask_former_instance"


class COCOPanopticNewBaselineDatasetMapper(_PublishedMapper):
    """Mapper for panoptic segmentation; large-scale jitter."""

    preset = "coco_panoptic_lsj"


class COCOInstanceNewBaselineDatasetMapper(_PublishedMapper):
    """Mapper for instance segmentation; large-scale jitter."""

    preset = "coco_instance_lsj"


class YTVISDatasetMapper(ClipMapper):
    """Mapper for clips of videos: :class:`~mask2former.data.mapper.ClipMapper` under its published name."""
