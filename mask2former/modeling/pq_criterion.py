"""The training loss of MaX-DeepLab (arXiv 2012.00759) and kMaX-DeepLab (arXiv 2207.04044)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from detectron2.config import CfgNode, configurable
from torch import Tensor, nn

from mask2former.modeling.criterion import CRITERION_REGISTRY, SetCriterion
from mask2former.modeling.losses.pq_targets import STEP, on_grid
from mask2former.modeling.losses.slot_masks import on_one_grid
from mask2former.modeling.losses.terms import LossTerm
from mask2former.structures import MaskPrediction, MaskTargets


@CRITERION_REGISTRY.register()
class PQCriterion(SetCriterion):
    """Matching and terms on every ``grid_step``-th pixel of the targets, for masks that are a softmax over slots.

    Masks of each layer, whatever their stride, are resized to that grid where they are compared. Void pixels and
    classes of pixels are those of the targets; where they are not given, void is what no mask has.

    Args:
        matcher, terms, deep_supervision: see :class:`SetCriterion`.
        grid_step: distance of the rows, and of the columns, that are compared.

    Raises:
        ValueError: a ``grid_step`` below 1.
    """

    @configurable
    def __init__(
        self,
        *,
        matcher: nn.Module,
        terms: Sequence[LossTerm],
        deep_supervision: bool = True,
        grid_step: int = STEP,
    ) -> None:
        super().__init__(matcher=matcher, terms=terms, deep_supervision=deep_supervision)
        if grid_step < 1:
            raise ValueError(f"MODEL.PQ.GRID_STEP is {grid_step}; it has to be 1 (every pixel) or more.")
        self.grid_step = grid_step

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        return super().from_config(cfg) | {"grid_step": cfg.MODEL.PQ.GRID_STEP}

    def forward(self, prediction: MaskPrediction, targets: Sequence[MaskTargets]) -> dict[str, Tensor]:
        grids = [on_grid(target, self.grid_step) for target in targets]
        layers = [on_one_grid(layer, grids[0].masks.shape[-2:]) for layer in (*prediction.aux, prediction)]
        return super().forward(replace(layers[-1], aux=layers[:-1]), grids)
