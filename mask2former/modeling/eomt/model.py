"""The meta-architecture of EoMT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from mask2former.modeling.activation_checkpoint import checkpoint_activations
from mask2former.modeling.backbone.plain_vit import PlainViT
from mask2former.modeling.eomt.annealing import MaskAnnealing
from mask2former.modeling.eomt.head import EoMTHead, may_look
from mask2former.modeling.meta_arch import SegmentationModel, refuse_parts_from_config
from mask2former.modeling.postprocess import PostProcessing
from mask2former.structures import MaskPrediction


@META_ARCH_REGISTRY.register()
class EoMT(SegmentationModel):
    """Encoder-only mask transformer (arXiv 2503.19108): queries join the tokens of a ViT before its last blocks.

    A prediction is made before each of these blocks and after the last one; all are supervised, and the last is the
    result. While training begins, a query sees only the patches inside the mask that it predicted last; that is
    annealed away block after block, so that a trained model is a plain ViT.

    Args:
        backbone: with a final norm, which predictions share.
        head: the queries and what predicts from them.
        annealing: one probability for each of the last blocks.
        criterion, pixel_mean, pixel_std, size_divisibility, post_processing, metadata: see
            :class:`~mask2former.modeling.meta_arch.segmentation_model.SegmentationModel`.

    Raises:
        ValueError: the backbone has fewer blocks than ``annealing``.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: PlainViT,
        head: EoMTHead,
        annealing: MaskAnnealing,
        criterion: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        size_divisibility: int,
        post_processing: PostProcessing,
        metadata: Any = None,
    ) -> None:
        super().__init__(
            criterion=criterion,
            pixel_mean=pixel_mean,
            pixel_std=pixel_std,
            size_divisibility=size_divisibility,
            post_processing=post_processing,
            metadata=metadata,
        )
        self.backbone, self.sem_seg_head, self.annealing = backbone, head, annealing
        self.first = len(backbone.blocks) - len(annealing.probabilities)
        if self.first < 0:
            raise ValueError(
                f"MODEL.EOMT.NUM_BLOCKS is {len(annealing.probabilities)}, but MODEL.VIT.DEPTH {len(backbone.blocks)}."
            )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        backbone = build_backbone(cfg)
        if not isinstance(backbone, PlainViT):
            raise ValueError(
                f"MODEL.META_ARCHITECTURE EoMT needs MODEL.BACKBONE.NAME PlainViT, whose blocks take the queries; "
                f"found {cfg.MODEL.BACKBONE.NAME}."
            )
        if backbone.shrink_block >= 0:
            raise ValueError(
                f"MODEL.VIT.SHRINK_BLOCK is {backbone.shrink_block}; EoMT keeps all patches, so it has to be -1."
            )
        if isinstance(backbone.norm, nn.Identity):
            raise ValueError("MODEL.VIT.FINAL_NORM is False; EoMT predicts from the last norm, so set it to True.")
        if cfg.MODEL.EOMT.NUM_BLOCKS < 1:
            raise ValueError(
                f"MODEL.EOMT.NUM_BLOCKS is {cfg.MODEL.EOMT.NUM_BLOCKS}; queries need at least 1 block to see the image."
            )
        refuse_parts_from_config(cfg, cls.__name__)
        checkpoint_activations(cfg.MODEL.CHECKPOINT, {"backbone": backbone})
        node, former = cfg.MODEL.EOMT, cfg.MODEL.MASK_FORMER
        head = EoMTHead(
            backbone.embed_dim,
            num_queries=former.NUM_OBJECT_QUERIES,
            num_classes=cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            patch_size=backbone.patch_size,
        )
        return {
            **cls.settings_from_config(cfg, backbone.size_divisibility),
            "backbone": backbone,
            "head": head,
            "annealing": MaskAnnealing(node.NUM_BLOCKS, node.ANNEAL_START, node.ANNEAL_END),
        }

    @property
    def num_classes(self) -> int:
        return self.sem_seg_head.num_classes

    @property
    def num_queries(self) -> int:
        """Q."""
        return self.sem_seg_head.num_queries

    def network(self, images: Tensor, num_frames: int = 1) -> MaskPrediction:
        if num_frames != 1:
            raise ValueError(
                f"EoMT takes single images; found clips of {num_frames} frames. Train with INPUT.SAMPLING_FRAME_NUM 1, "
                "and evaluate with MODEL.MASK_FORMER.TEST.CLIP tracker or minvis."
            )
        if self.training:
            self._anneal()
        x, grid = self.backbone.embed(images)
        rotation = self.backbone.rotation(grid, x.device)
        for block in self.backbone.blocks[: self.first]:
            x = block(x, rotation)
        x = torch.cat([self.sem_seg_head.q.weight.expand(x.shape[0], -1, -1), x], dim=1)
        earlier = []
        for block, keep in zip(self.backbone.blocks[self.first :], self.annealing.values(), strict=True):
            keep = keep if self.training else round(keep)  # chance has no place at inference
            mask = None
            if self.training or keep:
                earlier.append(self._predict(x, grid))
            if keep:
                mask = may_look(earlier[-1].masks, grid, x.shape[1], keep)
            x = block(x, rotation, mask)
        return replace(self._predict(x, grid), aux=earlier)

    def _predict(self, x: Tensor, grid: tuple[int, int]) -> MaskPrediction:
        x = self.backbone.norm(x)
        return self.sem_seg_head(x[:, : self.num_queries], self.backbone.patches(x, grid))

    def _anneal(self) -> None:
        try:
            iteration = get_event_storage().iter
        except AssertionError:  # raised by Detectron2 outside of a training: the probabilities stay as they are
            return
        self.annealing.set_iteration(iteration)
