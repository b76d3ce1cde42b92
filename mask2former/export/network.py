"""A trained model as one function of an image: the module that is exported."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.export.panoptic import panoptic_rule
from mask2former.export.results import best_instances, semantic_map
from mask2former.modeling import PerPixelBaselineHead
from mask2former.modeling.meta_arch import SegmentationModel
from mask2former.structures import resize_frames

MOST_PIXELS = 16384  # longest side that programs are exported for
_LEAST_STEPS = 2  # a side of one step would make levels of one pixel, for which tracing takes other branches

OUTPUTS = {
    "logits": ("class_logits", "mask_logits"),
    "semantic": ("classes",),
    "instance": ("scores", "classes", "boxes", "masks"),
    "panoptic": ("segments", "segment_classes", "segment_scores"),
}
"""Outputs of a program for each kind of results, in this order; docs/export.md describes the tensors."""

Finish = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


class ExportedNetwork(nn.Module):
    """Module that normalises and pads an image, runs the network and returns results at the image's size.

    Args:
        model: a trained model; it is put in evaluation mode.
        results: a key of :data:`OUTPUTS`.

    Raises:
        ValueError: the model predicts no masks, its head classifies pixels, there are no such results, or panoptic
            ones are wanted and the model does not know which classes are things or merges masks by a rule of another
            project.
    """

    is_thing: Tensor
    countable: Tensor

    def __init__(self, model: nn.Module, results: str = "logits") -> None:
        super().__init__()
        whole = require_mask_network(model)
        if results not in OUTPUTS:
            raise ValueError(f"results is {results!r}; choose one of {', '.join(OUTPUTS)}.")
        settings = whole.post_processing
        if results == "panoptic" and not settings.panoptic_on:
            raise ValueError(
                "Panoptic results were asked for, but the model's MODEL.MASK_FORMER.TEST.PANOPTIC_ON is False: it does "
                "not know which classes are things. Choose other results, or switch it on for a panoptic data set."
            )
        self.model = whole.eval()
        self.results = results
        classes = range(whole.num_classes)
        self.register_buffer("is_thing", torch.tensor([k in settings.things for k in classes]), persistent=False)
        countable = self.is_thing if settings.panoptic_on else torch.ones_like(self.is_thing)
        self.register_buffer("countable", countable, persistent=False)
        self.to(whole.device)
        self._finish()  # refuses a rule that it does not know

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Infer.

        Args:
            image: [1, 3, H, W] with values from 0 to 255, channels in the order of ``INPUT.FORMAT``.

        Returns:
            The outputs that :data:`OUTPUTS` names. Mask logits cover the padded image, at the stride of the mask
            features (4).
        """
        height, width = image.shape[-2:]
        padded = self._padded(image)
        prediction = self.model.network(padded)
        if self.results == "logits":
            return prediction.class_logits, prediction.masks.logits()[:, :, 0]
        masks = resize_frames(prediction.masks.logits(0), padded.shape[-2:], prediction.masks.align_corners)
        masks = masks[:, 0, :height, :width]
        if prediction.masks.activation == "softmax":
            masks = masks.softmax(0).logit()  # so that a sigmoid gives the probability
        return self._finish()(prediction.class_logits[0], masks)

    def _padded(self, image: Tensor) -> Tensor:
        """Normalise; pad with zeros at the right and at the bottom as the model does, see ``padded_side``."""
        normalised = (image.float() - self.model.pixel_mean) / self.model.pixel_std
        height, width = image.shape[-2:]
        step, offset = max(self.model.size_divisibility, 1), self.model.size_offset
        rows, columns = (_steps(size - offset, step) for size in (height, width))
        return F.pad(normalised, (0, columns * step + offset - width, 0, rows * step + offset - height))

    def _finish(self) -> Finish:
        if self.results == "semantic":
            return lambda logits, masks: (semantic_map(logits, masks),)
        settings = self.model.post_processing
        if self.results == "instance":
            return lambda logits, masks: best_instances(
                logits,
                masks,
                top_k=settings.detections_per_image,
                countable=self.countable,
                mask_threshold=settings.instance_mask_threshold,
            )
        return panoptic_rule(settings, self.is_thing)


def require_mask_network(model: nn.Module) -> SegmentationModel:
    """Return the model; refuse one that predicts no masks, or whose head classifies pixels, with a ValueError."""
    if not isinstance(model, SegmentationModel):
        raise ValueError(f"Only models that predict masks can be exported; this one is {type(model).__name__}.")
    head = getattr(model, "sem_seg_head", None)
    if isinstance(head, PerPixelBaselineHead):
        raise ValueError(
            f"Only models that predict masks can be exported; the head of this one, {type(head).__name__}, classifies "
            "pixels. Set MODEL.SEM_SEG_HEAD.NAME to MaskFormerHead, and take weights that were trained with it."
        )
    return model


def _steps(size: int, step: int) -> int:
    """Return how many steps cover ``size``.

    In a traced program the number is read from a tensor, so that it becomes a symbol of its own: all sizes in the
    network are then simple multiples of two symbols. As quotients of the image's sides they would take tracing minutes
    to simplify (Swin: hours).
    """
    count = (size + step - 1) // step  # not -(-size // step): ONNX rounds quotients of negative numbers up
    if not torch.compiler.is_compiling():
        return count
    symbol = torch.scalar_tensor(count, dtype=torch.int64).item()
    assert isinstance(symbol, int | torch.SymInt)
    torch._check(symbol >= _LEAST_STEPS)
    torch._check(symbol <= MOST_PIXELS // step)
    torch._check(symbol * step >= size)
    return symbol
