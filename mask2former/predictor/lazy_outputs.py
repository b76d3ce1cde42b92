"""A model's outputs, computed for one task at a time when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mask2former.labels import argmax_labels
from mask2former.modeling.meta_arch import PredictsMasks, WithSettings, require_finite
from mask2former.modeling.postprocess import PostProcessing, ResizedMasks, object_results, semantic_scores
from mask2former.out_of_memory import is_out_of_memory, release, say_once
from mask2former.region import Region, cut_out, paste
from mask2former.tiling import Model, TiledInference
from mask2former.tracking import Tracker, follow

LEAST_TILE = 128  # pixels of a side
Outputs = dict[str, Any]  # "sem_seg" or "sem_seg_labels", "panoptic_seg", "instances", in Detectron2's form


class LazyOutputs(Protocol):
    """One image's outputs."""

    def __call__(self, task: str, threshold: float | None) -> Outputs:
        """Return the model's outputs for a task, and any others computed with them.

        Large images have ``sem_seg_labels`` [H, W] in place of ``sem_seg``, and instances with ``mask_crops``: see
        :class:`mask2former.tiling.TiledInference`.

        Args:
            task: "panoptic", "instance" or "semantic".
            threshold: least score of queries in panoptic results; the configuration's if None.
        """


class MaskOutputs:
    """Outputs of a mask architecture, computed from its network's output, which stays on the device meanwhile.

    Args:
        settings: settings of the post-processing.
        class_logits: [Q, K + 1].
        masks: mask logits of the image.
    """

    def __init__(self, settings: PostProcessing, class_logits: Tensor, masks: ResizedMasks) -> None:
        self._settings, self._class_logits, self._masks = settings, class_logits, masks

    def tracked(self, tracker: Tracker) -> LazyOutputs:
        """Return the outputs of the next frame of a film."""
        return follow(tracker, self._settings, self._class_logits, self._masks)

    @torch.no_grad()
    def __call__(self, task: str, threshold: float | None) -> Outputs:
        if task == "semantic":
            return {"sem_seg": semantic_scores(self._class_logits, self._masks, self._settings)}
        # panoptic_on stays as it is: if on, instances are things only.
        settings = _at(replace(self._settings, instance_on=task == "instance"), threshold)
        return object_results(self._class_logits, self._masks, self._masks.size, settings)


class RegionOutputs:
    """Outputs of a region of interest, put back into the whole image.

    Args:
        outputs: those of the rectangle around it.
        region: where it lies.
    """

    def __init__(self, outputs: LazyOutputs, region: Region) -> None:
        self._outputs, self._region = outputs, region

    @torch.no_grad()
    def __call__(self, task: str, threshold: float | None) -> Outputs:
        outputs = dict(self._outputs(task, threshold))
        if "sem_seg" in outputs:  # labels have a number for void, which scores lack
            outputs["sem_seg_labels"] = argmax_labels(outputs.pop("sem_seg"))
        return paste(outputs, self._region)


class ReadyOutputs:
    """Outputs of a model of any architecture, made with its own threshold.

    Another threshold only removes panoptic segments with a lower ``score``; those without one, such as stuff, stay.
    """

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs

    def __call__(self, task: str, threshold: float | None) -> Outputs:
        return self._outputs if threshold is None else without_doubtful(self._outputs, threshold)


def without_doubtful(outputs: Outputs, threshold: float) -> Outputs:
    """Return the outputs without panoptic segments whose ``score`` is below the threshold; the input is not changed."""
    if "panoptic_seg" not in outputs:
        return outputs
    ids, segments = outputs["panoptic_seg"]
    doubtful = [s["id"] for s in segments if s.get("score", 1.0) < threshold]
    if not doubtful:
        return outputs
    ids = torch.where(torch.isin(ids, ids.new_tensor(doubtful)), 0, ids)
    return {**outputs, "panoptic_seg": (ids, [s for s in segments if s["id"] not in doubtful])}


class TiledOutputs:
    """Outputs of an image that is too large for the network; one pass over its tiles computes all tasks.

    Args:
        model: in evaluation mode.
        inputs: the model's input for the image.
        tasks: the tasks that will be needed.
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
            # Before tiles are joined, since joined segments have no score.
            return lambda batch: [without_doubtful(outputs, threshold) for outputs in self._model(batch)]
        own = self._model.post_processing
        semantic, instance = "semantic" in self._tasks, "instance" in self._tasks
        # With panoptic_on, instances are things only.
        panoptic = own.panoptic_on and ("panoptic" in self._tasks or instance)
        settings = replace(own, semantic_on=semantic, instance_on=instance, panoptic_on=panoptic)
        return WithSettings(self._model, _at(settings, threshold))


class FittingOutputs:
    """Outputs of an image that did not fit into memory whole: of the largest tiles that do, tried by halves.

    Args:
        model, inputs, tasks: see :class:`TiledOutputs`.
    """

    def __init__(self, model: nn.Module, inputs: dict[str, Any], tasks: Sequence[str]) -> None:
        self._model, self._inputs, self._tasks = model, inputs, tasks
        self._tile = max(inputs["image"].shape[-2:])

    def __call__(self, task: str, threshold: float | None) -> Outputs:
        """Return the outputs.

        Raises:
            MemoryError: not even the smallest tile fits.
        """
        while (half := -(-self._tile // 64) * 32) >= LEAST_TILE:
            tiled = TiledOutputs(self._model, self._inputs, self._tasks, half, half // 8)
            try:
                outputs = tiled(task, threshold)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            else:
                say_once(f"Out of memory with a whole image: its results are joined from tiles of {half} pixels.")
                return outputs
            self._tile = half
            release()
        raise MemoryError(f"Not even tiles of {LEAST_TILE} pixels fit into memory; a smaller model may.")


def _at(settings: PostProcessing, threshold: float | None) -> PostProcessing:
    return settings if threshold is None else settings.with_least_score(threshold)


@torch.no_grad()
def run(model: nn.Module, batch: list[dict[str, Any]]) -> list[LazyOutputs]:
    """Run a model on a batch; its post-processing is left for later if it is a mask architecture.

    An image with a ``mask`` that the model has no encoder for is looked at in that region alone, by itself.
    """
    if not getattr(model, "takes_masks", False) and any("mask" in inputs for inputs in batch):
        return [_run_region(model, inputs) if "mask" in inputs else run(model, [inputs])[0] for inputs in batch]
    if isinstance(model, PredictsMasks):
        predicted = model.predict(batch)
        require_finite([class_logits for class_logits, _ in predicted], batch)
        return [MaskOutputs(model.post_processing, class_logits, masks) for class_logits, masks in predicted]
    return [ReadyOutputs(outputs) for outputs in model(batch)]


def _run_region(model: nn.Module, inputs: dict[str, Any]) -> LazyOutputs:
    piece, region = cut_out(inputs, model.get_buffer("pixel_mean").flatten())
    (outputs,) = run(model, [piece])
    return RegionOutputs(outputs, region)
