"""Settings of post-processing: a value passed with each call, not a state of the network."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from detectron2.config import CfgNode

from mask2former.modeling.postprocess.clip_settings import ClipSettings
from mask2former.modeling.postprocess.thresholds import MaskwiseThresholds, TwoArgmaxThresholds
from mask2former.things import things_from_config


@dataclass(frozen=True)
class PostProcessing:
    """Results wanted, and their thresholds. Use ``dataclasses.replace`` to change some.

    Attributes:
        semantic_on, panoptic_on, instance_on: results wanted.
        things: classes in [0, K) of countable objects. Panoptic results need them; with those on, instances are of
            things only.
        object_mask_threshold: queries with a score above this take part in panoptic results.
        overlap_threshold: least ratio of the pixels that a query wins to those of its mask, for a panoptic segment.
        resize_before_semantic: resize the masks before the semantic sum over queries, instead of its result.
        detections_per_image: greatest number of instances.
        semantic_labels: return ``sem_seg_labels``, int16 [H, W], instead of ``sem_seg``. If masks are resized before
            the semantic sum, the scores [K, H, W] are then never all in memory.
        window, window_stride: side of the square windows in which an image is seen, and the distance of neighbours, in
            pixels of the image that the network gets; their semantic scores are averaged. 0: no windows; a distance of
            0: as few as cover the image, spread evenly.
        panoptic_rule: name in :data:`~mask2former.modeling.postprocess.panoptic.PANOPTIC_RULE_REGISTRY`.
        instance_mask_threshold: the mask of an instance is where its probability is above this.
        maskwise, two_argmax: thresholds of the rules of these names, in place of ``object_mask_threshold``.
        clips: how the objects of clips are found.
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
    instance_mask_threshold: float = 0.5
    maskwise: MaskwiseThresholds = field(default_factory=MaskwiseThresholds)
    two_argmax: TwoArgmaxThresholds = field(default_factory=TwoArgmaxThresholds)
    window: int = 0
    window_stride: int = 0
    clips: ClipSettings = field(default_factory=ClipSettings)

    def __post_init__(self) -> None:
        if not 0 < self.instance_mask_threshold < 1:
            raise ValueError(f"instance_mask_threshold is {self.instance_mask_threshold}; it has to be in (0, 1).")
        if not self.window:
            return
        if self.panoptic_on or self.instance_on or not self.semantic_on:
            raise ValueError(
                "MODEL.MASK_FORMER.TEST.WINDOW averages semantic scores, so of SEMANTIC_ON, INSTANCE_ON and "
                "PANOPTIC_ON the first alone may be on. For objects in large images take tiles (docs/predictor.md)."
            )
        if not 0 <= self.window_stride <= self.window:
            raise ValueError(
                f"MODEL.MASK_FORMER.TEST.WINDOW is {self.window} and WINDOW_STRIDE {self.window_stride}; the stride "
                "has to be at most the window's side, or pixels would be left out; 0 spreads few windows evenly."
            )

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
            things=things_from_config(
                cfg,
                "MODEL.MASK_FORMER.TEST.PANOPTIC_ON" if test.PANOPTIC_ON else None,
            ),
            object_mask_threshold=test.OBJECT_MASK_THRESHOLD,
            overlap_threshold=test.OVERLAP_THRESHOLD,
            resize_before_semantic=before,
            detections_per_image=cfg.TEST.DETECTIONS_PER_IMAGE,
            panoptic_rule=test.PANOPTIC_RULE,
            maskwise=MaskwiseThresholds.from_config(cfg),
            two_argmax=TwoArgmaxThresholds.from_config(cfg),
            window=test.WINDOW,
            window_stride=test.WINDOW_STRIDE,
            clips=ClipSettings.from_config(cfg),
        )

    def with_least_score(self, score: float) -> PostProcessing:
        """Return these settings with another score that a segment's query needs, whatever the panoptic rule."""
        return replace(
            self,
            object_mask_threshold=score,
            maskwise=replace(self.maskwise, thing=score, stuff=score),
            two_argmax=replace(self.two_argmax, score=score),
        )
