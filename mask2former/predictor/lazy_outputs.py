"""A model's outputs, one task at a time and not before somebody asks."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mask2former.modeling.meta_arch import MaskFormer
from mask2former.modeling.postprocess import ResizedMasks
from mask2former.tiling import Model, TiledInference

Outputs = dict[str, Any]  # "sem_seg", "panoptic_seg", "instances", in Detectron2's form


class LazyOutputs(Protocol):
    """One image's outputs."""

    def __call__(self, task: str, threshold: float | None) -> Outputs:
        """What the model gives for a task, and what else came with it.

        Args:
            task: "panoptic", "instance" or "semantic".
            threshold: for panoptic results, of the queries' scores; the configuration's when None.

        Of large images ``sem_seg`` holds labels [H, W], and instances have ``mask_crops``: see
        :class:`mask2former.tiling.TiledInference`.
        """


class MaskOutputs:
    """Outputs of a mask architecture, made of what its network gave; that stays on the device as long as this lives.

    Args:
        model: its post-processing is used.
        class_logits: [Q, K + 1].
        masks: of the image.
    """

    def __init__(self, model: MaskFormer, class_logits: Tensor, masks: ResizedMasks) -> None:
        self._model, self._class_logits, self._masks = model, class_logits, masks

    @torch.no_grad()
    def __call__(self, task: str, threshold: float | None) -> Outputs:
        if task == "semantic":
            return {"sem_seg": self._model.semantic(self._class_logits, self._masks)}
        model = copy.copy(self._model)  # shares the weights; its settings are its own
        model.instance_on = task == "instance"  # panoptic_on stays: with it, instances are of things alone
        if threshold is not None:
            model.object_mask_threshold = threshold
        return model.objects(self._class_logits, self._masks, self._masks.frame)


class ReadyOutputs:
    """Outputs that a model of any architecture has given, after its own threshold.

    Another one leaves out panoptic segments whose ``score`` is lower; those that have none, such as stuff, stay.
    """

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs

    def __call__(self, task: str, threshold: float | None) -> Outputs:
        return self._outputs if threshold is None else without_doubtful(self._outputs, threshold)


def without_doubtful(outputs: Outputs, threshold: float) -> Outputs:
    """The outputs without panoptic segments whose ``score`` is below the threshold; what comes in is not changed."""
    if "panoptic_seg" not in outputs:
        return outputs
    ids, segments = outputs["panoptic_seg"]
    doubtful = [s["id"] for s in segments if s.get("score", 1.0) < threshold]
    if not doubtful:
        return outputs
    ids = torch.where(torch.isin(ids, ids.new_tensor(doubtful)), 0, ids)
    return {**outputs, "panoptic_seg": (ids, [s for s in segments if s["id"] not in doubtful])}


class TiledOutputs:
    """Outputs of an image that is too large for the network, of all tasks in one pass over its tiles.

    Args:
        model: in evaluation mode.
        inputs: of the image, as the model takes them.
        tasks: those that will be asked for.
        tile, overlap: see :class:`mask2former.tiling.TiledInference`.
    """

    def __init__(self, model: nn.Module, inputs: dict[str, Any], tasks: Sequence[str], tile: int, overlap: int) -> None:
        self._model, self._inputs, self._tasks = model, inputs, tasks
        self._tile, self._overlap = tile, overlap

    @torch.no_grad()
    def __call__(self, task: str, threshold: float | None) -> Outputs:
        model = self._model_at(threshold)
        outputs = TiledInference(model, self._tile, self._overlap, compact=True)([self._inputs])[0]
        return {"sem_seg" if key == "sem_seg_labels" else key: output for key, output in outputs.items()}

    def _model_at(self, threshold: float | None) -> Model:
        if not isinstance(self._model, MaskFormer):
            if threshold is None:
                return self._model
            # Before tiles are joined: afterwards segments have no score.
            return lambda batch: [without_doubtful(outputs, threshold) for outputs in self._model(batch)]
        model = copy.copy(self._model)
        model.semantic_on, model.instance_on = "semantic" in self._tasks, "instance" in self._tasks
        # With panoptic results, instances are of things alone.
        model.panoptic_on &= "panoptic" in self._tasks or model.instance_on
        if threshold is not None:
            model.object_mask_threshold = threshold
        return model


@torch.no_grad()
def run(model: nn.Module, batch: list[dict[str, Any]]) -> list[LazyOutputs]:
    """The outputs of a model for a batch, in Detectron2's form, post-processed later if the model can."""
    if isinstance(model, MaskFormer):
        return [MaskOutputs(model, class_logits, masks) for class_logits, masks in model.predict(batch)]
    return [ReadyOutputs(outputs) for outputs in model(batch)]
