"""The meta-architecture: images in, losses or results out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone, build_sem_seg_head
from detectron2.structures import BitMasks, ImageList, Instances
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from typing_extensions import Self

from mask2former.checkpoint.module_hook import convert_on_load
from mask2former.labels import argmax_labels
from mask2former.modeling.activation_checkpoint import checkpoint_activations
from mask2former.modeling.cpu.fused_resnet import can_fuse, fused_resnet
from mask2former.modeling.criterion import SetCriterion
from mask2former.modeling.losses.pixel_losses import DenseFocalLoss, MaskLoss, PointCrossEntropy
from mask2former.modeling.matcher import HungarianMatcher
from mask2former.modeling.postprocess import (
    InstanceAccumulator,
    MaskSource,
    PanopticMerger,
    ResizedMasks,
    ResultAccumulator,
    SemanticLabels,
    SemanticScores,
    semantic_inference,
    stream_masks,
)
from mask2former.structures import MaskPrediction, MaskTargets, resize_frames


@META_ARCH_REGISTRY.register()
class MaskFormer(nn.Module):
    """A mask architecture for semantic, panoptic and instance segmentation (arXiv 2107.06278, 2112.01527).

    Args:
        backbone: images [B, 3, H, W] -> features by name.
        sem_seg_head: features -> ``MaskPrediction``.
        criterion: (``MaskPrediction``, targets) -> weighted losses.
        pixel_mean, pixel_std: of each channel, in the pictures' units.
        size_divisibility: batches are padded to a multiple of this, in pixels.
        things: classes in [0, K) of countable objects; panoptic results need them.
        semantic_on, panoptic_on, instance_on: results that inference gives.
        object_mask_threshold, overlap_threshold: see :class:`PanopticMerger`.
        resize_before_semantic: resize masks to the picture before the semantic sum, not its result.
        detections_per_image: most instances of a picture.
        semantic_labels: give ``sem_seg`` as labels, int16 [H, W], in place of scores. Where masks are resized before
            the semantic sum, the scores are never all in memory. See :func:`predict_labels_only`.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: nn.Module,
        sem_seg_head: nn.Module,
        criterion: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        size_divisibility: int,
        things: Collection[int],
        semantic_on: bool,
        panoptic_on: bool,
        instance_on: bool,
        object_mask_threshold: float,
        overlap_threshold: float,
        resize_before_semantic: bool,
        detections_per_image: int,
        semantic_labels: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.sem_seg_head = sem_seg_head
        self.criterion = criterion
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)
        self.size_divisibility = size_divisibility
        self.things = frozenset(things)
        self.semantic_on = semantic_on
        self.panoptic_on = panoptic_on
        self.instance_on = instance_on
        self.object_mask_threshold = object_mask_threshold
        self.overlap_threshold = overlap_threshold
        self.resize_before_semantic = resize_before_semantic or panoptic_on or instance_on
        self.detections_per_image = detections_per_image
        self.semantic_labels = semantic_labels
        convert_on_load(self)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        backbone = build_backbone(cfg)
        head = build_sem_seg_head(cfg, backbone.output_shape())
        if cfg.MODEL.CHECKPOINT:
            parts = {"pixel_decoder": head.pixel_decoder, "transformer_decoder": head.predictor}
            checkpoint_activations(cfg.MODEL.CHECKPOINT, {"backbone": backbone, **parts})
        node = cfg.MODEL.MASK_FORMER
        weights = {
            "class_weight": node.CLASS_WEIGHT,
            "mask_weight": node.MASK_WEIGHT,
            "dice_weight": node.DICE_WEIGHT,
            "mask_loss": _mask_loss(cfg),
        }
        num_classes = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
        criterion = SetCriterion(
            num_classes,
            matcher=HungarianMatcher(**weights),
            no_object_weight=node.NO_OBJECT_WEIGHT,
            deep_supervision=node.DEEP_SUPERVISION,
            **weights,
        )
        return {
            "backbone": backbone,
            "sem_seg_head": head,
            "criterion": criterion,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "size_divisibility": node.SIZE_DIVISIBILITY if node.SIZE_DIVISIBILITY > 0 else backbone.size_divisibility,
            "things": _thing_classes(cfg),
            "semantic_on": node.TEST.SEMANTIC_ON,
            "panoptic_on": node.TEST.PANOPTIC_ON,
            "instance_on": node.TEST.INSTANCE_ON,
            "object_mask_threshold": node.TEST.OBJECT_MASK_THRESHOLD,
            "overlap_threshold": node.TEST.OVERLAP_THRESHOLD,
            "resize_before_semantic": node.TEST.SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE,
            "detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    @property
    def dtype(self) -> torch.dtype:
        """Return the weights' format: float32, or what the model was moved to (``model.half()``)."""
        return next((weight.dtype for weight in self.parameters()), torch.float32)

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move to another device or format, but keep the images' mean and deviation in float32.

        In bfloat16 a mean of 123.675 would be 123.5, and images would be normalised in its eight bits.
        """
        exact = {name: getattr(self, name) for name in ("pixel_mean", "pixel_std")}
        super()._apply(function, recurse)
        for name, value in exact.items():
            moved = getattr(self, name)
            setattr(self, name, moved.float() if value.is_meta or moved.is_meta else value.to(moved.device))
        return self

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Train or infer.

        Args:
            batched_inputs: for each picture ``image``, uint8 or float [3, H, W]; in training ``instances`` with
                ``gt_classes`` and ``gt_masks``; at inference optionally ``height`` and ``width`` of the result.

        Returns:
            In training the weighted losses. At inference for each picture a dict of what is switched on:
            ``sem_seg`` [K, H, W] float (or labels, see ``semantic_labels``), ``panoptic_seg`` (int32 [H, W], segments),
            ``instances``.
        """
        if self.training and self.dtype in (torch.float16, torch.bfloat16):
            raise ValueError(
                f"The model's weights are {self.dtype}, in which small steps of training are lost. Keep them "
                "in float32 (model.float()) and compute in half precision: SOLVER.AMP.ENABLED True, or torch.autocast."
            )
        prediction, batch = self._network(batched_inputs)
        if self.training:
            height, width = batch.tensor.shape[-2:]
            return self.criterion(prediction, [self._targets(x, (height, width)) for x in batched_inputs])
        return [self._results(*one) for one in self._of_each_image(prediction, batch, batched_inputs)]

    def predict(self, batched_inputs: list[dict[str, Any]]) -> list[tuple[Tensor, ResizedMasks]]:
        """What :meth:`semantic` and :meth:`objects` make results of: class logits [Q, K + 1] and masks of each image.

        Args:
            batched_inputs: as those of :meth:`forward` at inference.
        """
        return self._of_each_image(*self._network(batched_inputs), batched_inputs)

    def _network(self, batched_inputs: list[dict[str, Any]]) -> tuple[MaskPrediction, ImageList]:
        images = [(x["image"].to(self.device) - self.pixel_mean) / self.pixel_std for x in batched_inputs]
        batch = ImageList.from_tensors(images, self.size_divisibility)
        return self.sem_seg_head(self._features(batch.tensor.to(self.dtype))), batch

    def _features(self, images: Tensor) -> dict[str, Tensor]:
        if can_fuse(self.backbone, images):
            return fused_resnet(self.backbone, images)
        return self.backbone(images)

    @staticmethod
    def _of_each_image(
        prediction: MaskPrediction, batch: ImageList, batched_inputs: list[dict[str, Any]]
    ) -> list[tuple[Tensor, ResizedMasks]]:
        padded_size = (batch.tensor.shape[-2], batch.tensor.shape[-1])
        predictions = []
        for index, (x, image_size) in enumerate(zip(batched_inputs, batch.image_sizes, strict=True)):
            size = (x.get("height") or image_size[0], x.get("width") or image_size[1])
            masks = ResizedMasks(prediction.masks, index, padded_size, image_size, size)
            predictions.append((prediction.class_logits[index], masks))
        return predictions

    def _targets(self, inputs: dict[str, Any], padded_size: tuple[int, int]) -> MaskTargets:
        instances: Instances = inputs["instances"].to(self.device)
        masks = instances.gt_masks.tensor if isinstance(instances.gt_masks, BitMasks) else instances.gt_masks
        height, width = masks.shape[-2:]
        padded = F.pad(masks.bool(), (0, padded_size[1] - width, 0, padded_size[0] - height))
        return MaskTargets(instances.gt_classes, padded[:, None])

    def _results(self, class_logits: Tensor, masks: ResizedMasks) -> dict[str, Any]:
        if not (self.semantic_on and self.resize_before_semantic):
            result = {}
            if self.semantic_on:
                scores = self.semantic(class_logits, masks)
                result["sem_seg"] = argmax_labels(scores) if self.semantic_labels else scores
            return {**result, **self.objects(class_logits, masks, masks.frame)}
        semantic = SemanticLabels if self.semantic_labels else SemanticScores
        collectors = {"sem_seg": semantic(class_logits, masks.frame), **self._objects(class_logits, masks.frame)}
        return _collected(masks, collectors, masks.frame)

    def semantic(self, class_logits: Tensor, masks: ResizedMasks) -> Tensor:
        """[K, H, W] float32 scores of one image, from class logits [Q, K + 1]."""
        if self.resize_before_semantic:
            return semantic_inference(class_logits, masks, masks.frame)
        scores = semantic_inference(class_logits, replace(masks, output_size=None), masks.image_size)
        return resize_frames(scores[None], masks.frame)[0]

    def objects(self, class_logits: Tensor, masks: MaskSource, size: tuple[int, int]) -> dict[str, Any]:
        """``panoptic_seg`` and ``instances`` of one image, as far as they are switched on.

        Args:
            class_logits: [Q, K + 1].
            masks: mask logits.
            size: (H, W) of the results.
        """
        return _collected(masks, self._objects(class_logits, size), size)

    def _objects(self, class_logits: Tensor, size: tuple[int, int]) -> dict[str, ResultAccumulator]:
        collectors: dict[str, ResultAccumulator] = {}
        if self.panoptic_on:
            collectors["panoptic_seg"] = PanopticMerger(
                class_logits,
                things=self.things,
                object_mask_threshold=self.object_mask_threshold,
                overlap_threshold=self.overlap_threshold,
                size=size,
            )
        if self.instance_on:
            collectors["instances"] = InstanceAccumulator(
                class_logits,
                top_k=self.detections_per_image,
                things=self.things if self.panoptic_on else None,
                size=size,
            )
        return collectors


@contextmanager
def predict_labels_only(model: nn.Module) -> Iterator[None]:
    """Within it a :class:`MaskFormer` gives labels as ``sem_seg``, in place of scores; others are left alone."""
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    if not isinstance(inner, MaskFormer):
        yield
        return
    before, inner.semantic_labels = inner.semantic_labels, True
    try:
        yield
    finally:
        inner.semantic_labels = before


def _collected(masks: MaskSource, collectors: dict[str, ResultAccumulator], size: tuple[int, int]) -> dict[str, Any]:
    if collectors:
        stream_masks(masks, list(collectors.values()), size)
    return {name: collector.result() for name, collector in collectors.items()}


def _mask_loss(cfg: CfgNode) -> MaskLoss:
    node = cfg.MODEL.MASK_FORMER
    if node.MASK_LOSS == "focal":
        return DenseFocalLoss()
    if node.MASK_LOSS != "points":
        raise ValueError(f"MODEL.MASK_FORMER.MASK_LOSS is {node.MASK_LOSS!r}; known are focal, points.")
    return PointCrossEntropy(
        node.TRAIN_NUM_POINTS,
        oversample_ratio=node.OVERSAMPLE_RATIO,
        importance_sample_ratio=node.IMPORTANCE_SAMPLE_RATIO,
    )


def _thing_classes(cfg: CfgNode) -> set[int]:
    """Contiguous ids of the things of the data set that is trained on (or, without one, tested on)."""
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        contiguous = MetadataCatalog.get(name).get("thing_dataset_id_to_contiguous_id")
        if contiguous is not None:
            return set(contiguous.values())
    if cfg.MODEL.MASK_FORMER.TEST.PANOPTIC_ON:
        raise ValueError(
            "MODEL.MASK_FORMER.TEST.PANOPTIC_ON needs to know which classes are things, but none of the data sets "
            f"{[*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]} is registered with `thing_dataset_id_to_contiguous_id`. "
            "Call mask2former.data.register_all(root) first, or name a registered data set in DATASETS.TRAIN."
        )
    return set()
