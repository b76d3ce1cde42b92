"""What post-processing is asked for: a value that goes with a call, and no state of the network."""

from __future__ import annotations

from dataclasses import dataclass

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog


@dataclass(frozen=True)
class PostProcessing:
    """Choose results and thresholds. ``dataclasses.replace`` makes other ones.

    Attributes:
        semantic_on, panoptic_on, instance_on: results that are given.
        things: classes in [0, K) of countable objects; panoptic results need them, and with these on instances are of
            things alone.
        object_mask_threshold: least score of a query that takes part in panoptic results.
        overlap_threshold: least share of its own mask that a panoptic segment keeps.
        resize_before_semantic: resize masks to the image before the semantic sum, not its result.
        detections_per_image: most instances of an image.
        semantic_labels: give ``sem_seg_labels`` in place of ``sem_seg``: labels, int16 [H, W]. Where masks are resized
            before the semantic sum, the scores [K, H, W] are then never all in memory.
        panoptic_rule: name in :data:`~mask2former.modeling.postprocess.panoptic.PANOPTIC_RULE_REGISTRY`.
    """

    semantic_on: bool = True
    panoptic_on: bool = False
    instance_on: bool = False
    things: frozenset[int] = frozenset()
    object_mask_threshold: float = 0.8
    overlap_threshold: float = 0.8
    resize_before_semantic: bool = True
    detections_per_image: int = 100
    semantic_labels: bool = False
    panoptic_rule: str = "PanopticMerger"

    @classmethod
    def from_config(cls, cfg: CfgNode) -> PostProcessing:
        """Read ``MODEL.MASK_FORMER.TEST`` and ``TEST.DETECTIONS_PER_IMAGE``.

        Raises:
            ValueError: panoptic results are wanted, and no data set says which classes are things.
        """
        test = cfg.MODEL.MASK_FORMER.TEST
        before = test.SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE or test.PANOPTIC_ON or test.INSTANCE_ON
        return cls(
            semantic_on=test.SEMANTIC_ON,
            panoptic_on=test.PANOPTIC_ON,
            instance_on=test.INSTANCE_ON,
            things=_thing_classes(cfg),
            object_mask_threshold=test.OBJECT_MASK_THRESHOLD,
            overlap_threshold=test.OVERLAP_THRESHOLD,
            resize_before_semantic=before,
            detections_per_image=cfg.TEST.DETECTIONS_PER_IMAGE,
            panoptic_rule=test.PANOPTIC_RULE,
        )


def _thing_classes(cfg: CfgNode) -> frozenset[int]:
    """Contiguous ids of the things of the data set that is trained on (or, without one, tested on)."""
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        contiguous = MetadataCatalog.get(name).get("thing_dataset_id_to_contiguous_id")
        if contiguous is not None:
            return frozenset(contiguous.values())
    if cfg.MODEL.MASK_FORMER.TEST.PANOPTIC_ON:
        raise ValueError(
            "MODEL.MASK_FORMER.TEST.PANOPTIC_ON needs to know which classes are things, but none of the data sets "
            f"{[*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]} is registered with `thing_dataset_id_to_contiguous_id`. "
            "Call mask2former.data.register_all(root) first, or name a registered data set in DATASETS.TRAIN."
        )
    return frozenset()
