"""A backbone, a decoder, a loss term and a data set of one's own, outside the package. docs/extending.md explains it.

Run as a script, it draws discs, trains on them for two minutes on two CPU cores, and prints the scores (mask AP 57).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from PIL import Image
from pycocotools import mask as rle
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former import add_maskformer2_config
from mask2former.modeling.losses.terms import LOSS_TERM_REGISTRY, LossTerm
from mask2former.modeling.transformer_decoder import TRANSFORMER_DECODER_REGISTRY
from mask2former.structures import FactoredMasks, MaskPrediction, MaskTargets, Matching


@BACKBONE_REGISTRY.register()
class Pyramid(Backbone):
    """Four strided convolutions, which give ``res2`` to ``res5``."""

    def __init__(self, cfg: CfgNode, input_shape: ShapeSpec) -> None:
        super().__init__()
        channels = [input_shape.channels, 32, 48, 64, 96]
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 5, stride=4 if i == 0 else 2, padding=2), nn.GroupNorm(8, b), nn.GELU())
            for i, (a, b) in enumerate(pairwise(channels))
        )
        self._out_features = ["res2", "res3", "res4", "res5"]
        self._out_feature_strides = {f"res{i}": 2**i for i in (2, 3, 4, 5)}
        self._out_feature_channels = {f"res{i + 2}": c for i, c in enumerate(channels[1:])}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = {}
        for name, stage in zip(self._out_features, self.stages, strict=True):
            features[name] = images = stage(images)
        return features


@TRANSFORMER_DECODER_REGISTRY.register()
class OneLookDecoder(nn.Module):
    """Each query looks once at the coarsest level; predictions before and after that are supervised."""

    multi_scale = True

    @configurable
    def __init__(self, in_channels: int, *, num_classes: int, num_queries: int, mask_dim: int) -> None:
        super().__init__()
        self.num_classes, self.num_queries = num_classes, num_queries
        self.queries = nn.Embedding(num_queries, in_channels)
        self.look = nn.MultiheadAttention(in_channels, 4, batch_first=True)
        self.class_embed = nn.Linear(in_channels, num_classes + 1)
        self.mask_embed = nn.Linear(in_channels, mask_dim)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: int) -> dict[str, Any]:
        head, former = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER
        return {
            "in_channels": in_channels,
            "num_classes": head.NUM_CLASSES,
            "num_queries": former.NUM_OBJECT_QUERIES,
            "mask_dim": head.MASK_DIM,
        }

    def forward(self, levels: Sequence[Tensor], mask_features: Tensor, num_frames: int = 1) -> MaskPrediction:
        features = mask_features.unflatten(0, (-1, num_frames)).transpose(1, 2)  # [B, C, T, H, W]
        memory = levels[0].unflatten(0, (-1, num_frames)).transpose(1, 2).flatten(2).transpose(1, 2)
        before = self.queries.weight.expand(len(features), -1, -1)
        after = before + self.look(before, memory, memory, need_weights=False)[0]
        first, last = (
            MaskPrediction(self.class_embed(x), FactoredMasks(self.mask_embed(x), features)) for x in (before, after)
        )
        return MaskPrediction(last.class_logits, last.masks, aux=[first])


@LOSS_TERM_REGISTRY.register()
class AreaLoss(LossTerm):
    """The matched masks' areas should be right: mean absolute difference, as a share of the image."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()

    def forward(
        self, layers: Sequence[MaskPrediction], targets: Sequence[MaskTargets], matchings: Sequence[Matching]
    ) -> dict[str, Tensor]:
        losses = []
        for index, layer in enumerate(layers):
            total = layer.class_logits.new_zeros(())
            for image, (target, (queries, chosen)) in enumerate(zip(targets, matchings, strict=True)):
                predicted = layer.masks.logits(image, queries[index]).sigmoid().flatten(1).mean(1)
                wanted = target.masks[chosen[index]].float().flatten(1).mean(1)
                total = total + F.l1_loss(predicted, wanted, reduction="sum")
            losses.append(total / max(1, sum(len(target) for target in targets)))
        return {"loss_area": torch.stack(losses)}


def discs(folder: str, count: int, seed: int, side: int = 96) -> list[dict[str, Any]]:
    """Draw images of bright and dark discs; Detectron2's data set dicts."""
    rng, records = np.random.default_rng(seed), []
    y, x = np.mgrid[:side, :side]
    for number in range(count):
        image = rng.integers(100, 140, (side, side, 3), np.uint8)
        annotations = []
        for _ in range(rng.integers(1, 4)):
            radius, kind = rng.integers(10, 20), int(rng.integers(2))
            cx, cy = rng.integers(radius, side - radius, 2)
            inside = (x - cx) ** 2 + (y - cy) ** 2 < radius**2
            image[inside] = 30 + 190 * kind
            box = [int(cx - radius), int(cy - radius), int(2 * radius), int(2 * radius)]
            encoded = rle.encode(np.asfortranarray(inside.astype(np.uint8)))
            annotations.append({"bbox": box, "bbox_mode": 1, "category_id": kind, "segmentation": encoded})
        path = f"{folder}/{seed}_{number}.png"
        Image.fromarray(image).save(path)
        size = {"height": side, "width": side}
        records.append({"file_name": path, "image_id": number, "annotations": annotations, **size})
    return records


def register(folder: str) -> None:
    """Register ``discs_train`` and ``discs_val``."""
    for split, count, seed in (("train", 64, 1), ("val", 8, 2)):
        DatasetCatalog.register(f"discs_{split}", lambda count=count, seed=seed: discs(folder, count, seed))
        MetadataCatalog.get(f"discs_{split}").set(thing_classes=["dark", "bright"], evaluator_type="coco")


def configuration(folder: str) -> CfgNode:
    """Detectron2's configuration with these parts by name."""
    cfg = get_cfg()
    add_maskformer2_config(cfg)
    cfg.OUTPUT_DIR, cfg.MODEL.DEVICE, cfg.MODEL.META_ARCHITECTURE = folder, "cpu", "MaskFormer"
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("discs_train",), ("discs_val",)
    cfg.INPUT.DATASET_MAPPER_NAME, cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = "mask_former_instance", (96,), 96
    cfg.MODEL.BACKBONE.NAME = "Pyramid"
    head, former = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER
    head.NAME, head.IN_FEATURES, head.NUM_CLASSES = "MaskFormerHead", ["res2", "res3", "res4", "res5"], 2
    head.CONVS_DIM = head.MASK_DIM = 32
    former.TRANSFORMER_IN_FEATURE, former.TRANSFORMER_DECODER_NAME = "multi_scale_pixel_decoder", "OneLookDecoder"
    former.NUM_OBJECT_QUERIES, former.MASK_WEIGHT, former.DICE_WEIGHT = 10, 5.0, 5.0
    former.LOSS_TERMS = ["ClassLoss", "MaskAndDiceLoss", "AreaLoss"]
    former.TEST.SEMANTIC_ON, former.TEST.INSTANCE_ON = False, True
    cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER, cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.WARMUP_ITERS = 0.002, 300, 8, 10
    cfg.SOLVER.BACKBONE_MULTIPLIER, cfg.TEST.DETECTIONS_PER_IMAGE, cfg.DATALOADER.NUM_WORKERS = 1.0, 10, 0
    return cfg


if __name__ == "__main__":
    import tempfile

    from mask2former.engine import Trainer

    with tempfile.TemporaryDirectory() as folder:
        register(folder)
        trainer = Trainer(configuration(folder))
        print(trainer.train())
