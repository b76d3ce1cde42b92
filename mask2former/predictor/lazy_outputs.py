"""A model's outputs, one task at a time and not before somebody asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mask2former.modeling.meta_arch import PredictsMasks, WithSettings
from mask2former.modeling.postprocess import PostProcessing, ResizedMasks, object_results, semantic_scores
from mask2former.tiling import Model, TiledInference

Outputs = dict[str, Any]  # "sem_seg" or "sem_seg_labels", "panoptic_seg", "instances", in Detectron2's form


class LazyOutputs(Protocol):
    """One image's outputs."""

    def __call__(self, task: str, threshold: float | None) -> Outputs:
        """What the model gives for a task, and what else came with it.

        Args:
            task: "panoptic", "instance" or "semantic".
            threshold: for panoptic results, of the queries' scores; the configuration's when None.

        Of large images there are ``sem_seg_labels`` [H, W] in place of ``sem_seg``, and instances have
        ``mask_crops``: see :class:`mask2former.tiling.TiledInference`.
        """


class MaskOutputs:
    """Outputs of a mask architecture, made of what its network gave; that stays on the device as long as this lives.

    Args:
        settings: of the post-processing.
        class_logits: [Q, K + 1].
        masks: of the image.
    """

    def __init__(self, settings: PostProcessing, class_logits: Tensor, masks: ResizedMasks) -> None:
        self._settings, self._class_logits, self._masks = settings, class_logits, masks

    @torch.no_grad()
    def __call__(self, task: str, threshold: float | None) -> Outputs:
        if task == "semantic":
            return {"sem_seg": semantic_scores(self._class_logits, self._masks, self._settings)}
        # panoptic_on stays: with it, instances are of things alone.
        settings = _at(replace(self._settings, instance_on=task == "instance"), threshold)
        return object_results(self._class_logits, self._masks, self._masks.size, settings)


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
        return TiledInference(model, self._tile, self._overlap, compact=True)([self._inputs])[0]

    def _model_at(self, threshold: float | None) -> Model:
        if not isinstance(self._model, PredictsMasks):
            if threshold is None:
                return self._model
            # Before tiles are joined: afterwards segments have no score.
            return lambda batch: [without_doubtful(outputs, threshold) for outputs in self._model(batch)]
        own = self._model.post_processing
        semantic, instance = "semantic" in self._tasks, "instance" in self._tasks
        # With panoptic results, instances are of things alone.
        panoptic = own.panoptic_on and ("panoptic" in self._tasks or instance)
        settings = replace(own, semantic_on=semantic, instance_on=instance, panoptic_on=panoptic)
        return WithSettings(self._model, _at(settings, threshold))


def _at(settings: PostProcessing, threshold: float | None) -> PostProcessing:
    return settings if threshold is None else replace(settings, object_mask_threshold=threshold)


@torch.no_grad()
def run(model: nn.Module, batch: list[dict[str, Any]]) -> list[LazyOutputs]:
    """The outputs of a model for a batch, in Detectron2's form, post-processed later if the model can."""
    if isinstance(model, PredictsMasks):
        return [MaskOutputs(model.post_processing, class_logits, masks) for class_logits, masks in model.predict(batch)]
    return [ReadyOutputs(outputs) for outputs in model(batch)]
