"""The network of a trained model alone, from padded images to the factors of its masks: the module that engines run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mask2former.export.network import require_mask_network
from mask2former.structures import Activation, DenseMasks, FactoredMasks, MaskPrediction

FACTORED = ("class_logits", "mask_embed", "mask_features")
DENSE = ("class_logits", "mask_logits")
BARE = "network"
"""The kind of results of such a program, beside those of :data:`mask2former.export.OUTPUTS`."""


@dataclass(frozen=True)
class PredictionForm:
    """How a network's outputs become a :class:`~mask2former.structures.MaskPrediction`.

    Attributes:
        outputs: names of the outputs, :data:`FACTORED` or :data:`DENSE`.
        activation, align_corners: those of :class:`~mask2former.structures.Masks`.
    """

    outputs: tuple[str, ...]
    activation: Activation
    align_corners: bool

    def prediction(self, tensors: Sequence[Tensor]) -> MaskPrediction:
        """Build the prediction of images from tensors in the order of :attr:`outputs`.

        Args:
            tensors: class logits [B, Q, K + 1]; then mask embeddings [B, Q, C] and mask features [B, C, H, W], or mask
                logits [B, Q, H, W].
        """
        class_logits, *rest = tensors
        if self.outputs == DENSE:
            return MaskPrediction(class_logits, DenseMasks(rest[0][:, :, None], self.activation, self.align_corners))
        embed, features = rest
        return MaskPrediction(
            class_logits, FactoredMasks(embed, features[:, :, None], self.activation, self.align_corners)
        )

    def to_json(self) -> dict[str, Any]:
        """Return the form as it is written into a program's metadata."""
        return {"outputs": list(self.outputs), "activation": self.activation, "align_corners": self.align_corners}

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> PredictionForm:
        """Read what :meth:`to_json` gave."""
        return cls(tuple(entry["outputs"]), entry["activation"], entry["align_corners"])


class BareNetwork(nn.Module):
    """Module that runs a model's network on padded, normalised images, and returns the factors of its prediction.

    Normalisation, padding and post-processing stay with the model.

    Args:
        model: a trained model; it is put in evaluation mode.

    Raises:
        ValueError: the model predicts no masks, or needs more than single images.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = require_mask_network(model).eval()
        if getattr(model, "sees_clips", False):
            raise ValueError(
                "This model sees all frames of a clip at once, and a program takes single images. Run it in PyTorch or "
                "add MODEL.MASK_FORMER.TEST.CLIP tracker to follow objects frame by frame (docs/video.md), best with "
                "weights that were trained with INPUT.SAMPLING_FRAME_NUM 1."
            )
        self.results = BARE
        self.form = self._form()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Run the network.

        Args:
            images: [B, 3, H, W] float32, normalised and padded by ``model.preprocess``.

        Returns:
            The outputs that :attr:`form` names: class logits [B, Q, K + 1]; mask embeddings [B, Q, C] and mask features
            [B, C, h, w], or mask logits [B, Q, h, w].
        """
        prediction = self.model.network(images)
        if isinstance(masks := prediction.masks, FactoredMasks):
            return prediction.class_logits, masks.mask_embed, masks.mask_features[:, :, 0]
        return prediction.class_logits, masks.logits()[:, :, 0]

    @torch.no_grad()
    def _form(self) -> PredictionForm:
        """Ask the network on a small image."""
        step, offset = max(self.model.size_divisibility, 1), self.model.size_offset
        side = 2 * step + offset
        image = torch.zeros((1, 3, side, side), device=self.model.device, dtype=self.model.dtype)
        masks = self.model.network(image).masks
        names = FACTORED if isinstance(masks, FactoredMasks) else DENSE
        return PredictionForm(names, masks.activation, masks.align_corners)
