"""Interface of models for test-time augmentation, evaluation and the predictor, whatever their class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mask2former.modeling.postprocess import PostProcessing, ResizedMasks


@runtime_checkable
class PredictsMasks(Protocol):
    """Interface of a model for test-time augmentation, evaluation and the predictor, whatever its class."""

    post_processing: PostProcessing

    def predict(self, batched_inputs: list[dict[str, Any]]) -> list[tuple[Tensor, ResizedMasks]]:
        """Return class logits [Q, K + 1] and masks of each image."""

    def infer(self, batched_inputs: list[dict[str, Any]], settings: PostProcessing) -> list[dict[str, Any]]:
        """Return the results of each image under these settings."""


def require_finite(class_logits: Sequence[Tensor], batched_inputs: Sequence[dict[str, Any]]) -> None:
    """Refuse class logits [Q, K + 1], one for each image or frame, that are not finite: they would score 0 in silence.

    Raises:
        ValueError: it names the first such image.
    """
    finite = torch.stack([logits.isfinite().all() for logits in class_logits]).tolist() if class_logits else []
    if all(finite):
        return
    index = finite.index(False) * len(batched_inputs) // len(finite)
    raise ValueError(
        f"{batched_inputs[index].get('file_name', f'image {index} of the batch')}: the network's class logits are not "
        "finite. Usual reasons: weights with NaN (of a training that diverged), or a half format that overflows "
        "(SOLVER.AMP.DTYPE float16; bfloat16 has the range of float32)."
    )


class WithSettings(nn.Module):
    """A model with other post-processing settings, called like the model itself; the network is shared."""

    def __init__(self, model: PredictsMasks, settings: PostProcessing) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        self.training = getattr(model, "training", False)  # Detectron2's evaluation restores it, in the model too

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Infer, like the model in evaluation mode."""
        return self.model.infer(batched_inputs, self.settings)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside ``DistributedDataParallel``, or the model itself."""
    return model.module if isinstance(model, DistributedDataParallel) else model
