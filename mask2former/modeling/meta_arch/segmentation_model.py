"""The base of every meta-architecture of the family: images in, losses or results out, around any network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.structures import ImageList
from torch import Tensor, nn
from typing_extensions import Self

from mask2former.checkpoint.module_hook import convert_on_load
from mask2former.labels import argmax_labels
from mask2former.modeling.criterion import build_criterion
from mask2former.modeling.mask_encoder import make_guide
from mask2former.modeling.meta_arch.batch import Batch, are_clips, pad_together, resized_masks, targets_of
from mask2former.modeling.meta_arch.predicts_masks import require_finite
from mask2former.modeling.meta_arch.windows import windowed_scores, with_window
from mask2former.modeling.postprocess import JOINT, PostProcessing, ResizedMasks, post_process, semantic_scores
from mask2former.out_of_memory import in_halves
from mask2former.region import RegionInference
from mask2former.region.crop import require_mask, resize_mask
from mask2former.structures import MaskPrediction, MaskTargets
from mask2former.tracking.clips import link_clip


class SegmentationModel(nn.Module):
    """A network that predicts (class distribution, mask) pairs, with its normalisation, loss and post-processing.

    A meta-architecture of the family derives from this class and defines :meth:`network` and :attr:`num_classes`. It
    may also override :meth:`preprocess`, :meth:`prepare_targets` and :meth:`infer`, but nothing else. Post-processing
    settings are an immutable value: replace ``post_processing`` to change them.

    Args:
        criterion: (``MaskPrediction``, targets) -> weighted losses.
        pixel_mean, pixel_std: mean and deviation of each channel, in the images' units.
        size_divisibility: batches are padded to a multiple of this, in pixels.
        post_processing: results wanted, and their thresholds.
        metadata: metadata of the data set, for drawing results; the model does not read it.
        distillation: (prediction, batched inputs, padded size) -> weighted losses beside the criterion's, and
            ``begin(model)``, called before each step; None: no teacher. The network has to put the backbone's features
            into the prediction's ``extras`` if :attr:`keeps_features`.
    """

    distillation: Any  # a module that has begin()
    pixel_mean: Tensor
    pixel_std: Tensor
    takes_masks: bool = False
    """True: :meth:`network` has a third argument, ``guide``, see :class:`Batch`. False: a mask that comes with an image
    is a region of interest."""
    engine: Callable[[Tensor], MaskPrediction] | None = None
    """Runs :meth:`network` elsewhere, at inference alone: padded images [B, 3, H, W] in, their prediction out (see
    :mod:`mask2former.backends`). None: PyTorch runs it."""
    size_offset: int = 0
    """Sides of padded batches are multiples of ``size_divisibility`` plus this, in pixels: 1 where corners of features
    are aligned."""

    def __init__(
        self,
        *,
        criterion: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        size_divisibility: int,
        post_processing: PostProcessing,
        metadata: Any = None,
        distillation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.criterion = criterion
        self.distillation = distillation
        self.keeps_features = distillation is not None
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)
        self.size_divisibility = size_divisibility
        self.post_processing = post_processing
        self.metadata = metadata
        convert_on_load(self)

    @staticmethod
    def settings_from_config(cfg: CfgNode, divisibility: int) -> dict[str, Any]:
        """Return the constructor's arguments from a configuration; ``divisibility`` is the backbone's own."""
        wanted = cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY
        return {
            "criterion": build_criterion(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "size_divisibility": wanted if wanted > 0 else divisibility,
            "post_processing": PostProcessing.from_config(cfg),
            "metadata": MetadataCatalog.get(cfg.DATASETS.TRAIN[0]) if cfg.DATASETS.TRAIN else None,
        }

    def network(self, images: Tensor, num_frames: int = 1) -> MaskPrediction:
        """Predict masks.

        Args:
            images: [B * T, 3, H, W] float, normalised and padded; the frames of a clip are consecutive.
            num_frames: T.
        """
        raise NotImplementedError

    @property
    def num_classes(self) -> int:
        """K, without "no object"."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the weights: float32, or what the model was moved to (``model.half()``)."""
        return next((weight.dtype for weight in self.parameters()), torch.float32)

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move to another device or format, but keep the pixel mean and deviation in float32.

        In bfloat16 a mean of 123.675 would become 123.5, and images would be normalised with its eight bits.
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
            batched_inputs: for each image ``image``, uint8 or float [3, H, W]; in training ``instances`` with
                ``gt_classes`` and ``gt_masks``, see :meth:`prepare_targets`; at inference optionally ``height`` and
                ``width`` of the result. For a clip, ``image`` and ``instances`` are lists over its frames. Optionally
                ``mask`` [H, W], nonzero where it marks: what a network with a mask encoder is asked for, or else, at
                inference, the region of interest (:mod:`mask2former.region`).

        Returns:
            In training, the weighted losses. At inference, for each image the results of
            :func:`~mask2former.modeling.postprocess.post_process`; for each clip ``{"frames": [results of a frame]}``.

        Raises:
            ValueError: training with weights in a half format, or images and clips in one batch.
        """
        if not self.training:
            return self.infer(batched_inputs, self.post_processing)
        if self.engine is not None:
            raise ValueError(
                "This model's network runs in another engine than PyTorch, which only infers: call model.eval(), or "
                "set model.engine = None (Predictor: leave out backend) to train."
            )
        if self.dtype in (torch.float16, torch.bfloat16):
            raise ValueError(
                f"The model's weights are {self.dtype}, in which small steps of training are lost. Keep them "
                "in float32 (model.float()) and compute in half precision: SOLVER.AMP.ENABLED True, or torch.autocast."
            )
        if self.distillation is not None:
            self.distillation.begin(self)
        prediction, batch = self.predict_raw(batched_inputs)
        losses = self.criterion(prediction, self.prepare_targets(batched_inputs, batch))
        if self.distillation is not None:
            losses = {**losses, **self.distillation(prediction, batched_inputs, batch.padded_size)}
        return losses

    def predict_raw(self, batched_inputs: list[dict[str, Any]]) -> tuple[MaskPrediction, Batch]:
        """Run the network; return its raw prediction, for losses, distillation and post-processing, and the batch."""
        batch = self.preprocess(batched_inputs)
        return self._predicted(batch, batch.images.tensor, batch.guide), batch

    def _predicted(self, batch: Batch, images: Tensor, guide: Tensor | None) -> MaskPrediction:
        if self.engine is None or self.training:
            return self.network(images, batch.num_frames, **({} if guide is None else {"guide": guide}))
        if guide is not None or batch.num_frames != 1:
            raise ValueError(
                "This model's network runs in another engine than PyTorch, which takes single images alone; found "
                f"{'masks that come with them' if guide is not None else f'a clip of {batch.num_frames} frames'}. "
                "Set model.engine = None (Predictor: leave out backend)."
            )
        return self.engine(images)

    def predict(self, batched_inputs: list[dict[str, Any]]) -> list[tuple[Tensor, ResizedMasks]]:
        """Return class logits [Q, K + 1] and masks at the wanted size, for each image, or each frame of each clip.

        Where memory runs out, half of the images go through the network at a time, padded as all are.

        Args:
            batched_inputs: see :meth:`forward`, at inference.
        """
        batch = self.preprocess(batched_inputs)

        def predicted(part: range) -> list[tuple[Tensor, ResizedMasks]]:
            frames = batch.images.tensor[part.start * batch.num_frames : part.stop * batch.num_frames]
            guide = None
            if batch.guide is not None:
                guide = batch.guide[part.start * batch.num_frames : part.stop * batch.num_frames]
            prediction = self._predicted(batch, frames, guide)
            return [
                (prediction.class_logits[row], masks)
                for row, index in enumerate(part)
                for masks in resized_masks(prediction, row, batch, index, batched_inputs[index])
            ]

        return in_halves(predicted, range(len(batched_inputs)))

    def infer(self, batched_inputs: list[dict[str, Any]], settings: PostProcessing) -> list[dict[str, Any]]:
        """Return the results of each image or clip under ``settings``, without changing or copying the model.

        Clips that do not go through the network jointly give their tracks, see
        :func:`~mask2former.tracking.clips.link_clip`.

        Raises:
            ValueError: class logits that are not finite, of which nothing can be made; a ``mask`` that does not fit; or
                windows over clips.
        """
        if not self.takes_masks and any(x.get("mask") is not None for x in batched_inputs):
            return RegionInference(lambda parts: self.infer(parts, settings), self.pixel_mean.flatten())(batched_inputs)
        if are_clips(batched_inputs) and settings.clips.way != JOINT:
            return [link_clip(self._finite, inputs, settings.clips) for inputs in batched_inputs]
        if settings.window:
            return [self._in_windows(inputs, settings) for inputs in batched_inputs]
        predicted = self._finite(batched_inputs)
        results = [post_process(*one, settings) for one in predicted]
        if not are_clips(batched_inputs):
            return results
        count = len(results) // len(batched_inputs)
        return [{"frames": results[start : start + count]} for start in range(0, len(results), count)]

    def _finite(self, batched_inputs: list[dict[str, Any]]) -> list[tuple[Tensor, ResizedMasks]]:
        """Predict, and refuse class logits that are not finite."""
        predicted = self.predict(batched_inputs)
        require_finite([class_logits for class_logits, _ in predicted], batched_inputs)
        return predicted

    def _in_windows(self, inputs: dict[str, Any], settings: PostProcessing) -> dict[str, Any]:
        """Return the semantic result of an image, averaged over sliding windows."""
        image = inputs["image"]
        if not isinstance(image, Tensor):
            raise ValueError("MODEL.MASK_FORMER.TEST.WINDOW takes single images; found a clip.")

        def score(windows: Sequence[Tensor]) -> list[Tensor]:
            pieces = [with_window(inputs, window) for window in windows]
            return [semantic_scores(*one, settings) for one in self._finite(pieces)]

        size = (inputs.get("height") or image.shape[-2], inputs.get("width") or image.shape[-1])
        scores = windowed_scores(score, image, settings.window, settings.window_stride, size)
        return {"sem_seg_labels": argmax_labels(scores)} if settings.semantic_labels else {"sem_seg": scores}

    def preprocess(self, batched_inputs: list[dict[str, Any]]) -> Batch:
        """Normalise and pad images, or the frames of clips of one length.

        Padding that images bring along is zero too: pixels for which ``is_real_pixels`` (bool [H, W]) is False.

        Raises:
            ValueError: clips of different lengths, or images and clips in one batch.
        """
        clips = are_clips(batched_inputs)
        lengths = {len(x["image"]) for x in batched_inputs} if clips else {1}
        if len(lengths) > 1:
            raise ValueError(f"The clips of a batch need the same number of frames; found {sorted(lengths)}.")
        frames = [frame for x in batched_inputs for frame in (x["image"] if clips else [x["image"]])]
        normalised = [(frame.to(self.device) - self.pixel_mean) / self.pixel_std for frame in frames]
        if not clips:
            normalised = [
                one * x["is_real_pixels"].to(self.device) if "is_real_pixels" in x else one
                for one, x in zip(normalised, batched_inputs, strict=True)
            ]
        images = pad_together(normalised, self.size_divisibility, self.size_offset)
        images.tensor = images.tensor.to(self.dtype)
        return Batch(images, lengths.pop(), self._guide(batched_inputs, images) if self.takes_masks else None)

    def _guide(self, batched_inputs: list[dict[str, Any]], images: ImageList) -> Tensor | None:
        """Return the guide of a batch; None at inference without masks, which takes no time then."""
        given = [x.get("mask") is not None for x in batched_inputs]
        if not any(given) and not self.training:  # in training every parameter has to take part, on all processes
            return None
        frames = len(images.image_sizes) // len(batched_inputs)
        masks: list[Tensor | None] = []
        for x, has in zip(batched_inputs, given, strict=True):  # a clip has none
            size = images.image_sizes[len(masks)]
            masks += [resize_mask(require_mask(x), size)] if has else [None] * frames
        padded = (images.tensor.shape[-2], images.tensor.shape[-1])
        return make_guide(masks, images.image_sizes, padded, self.device).to(self.dtype)

    def prepare_targets(self, batched_inputs: list[dict[str, Any]], batch: Batch) -> list[MaskTargets]:
        """Build targets of the padded size.

        Args:
            batched_inputs: with ``instances`` (``gt_classes`` int64 [N], ``gt_masks`` bool [N, H, W] or ``BitMasks``),
                for a clip one for each frame, with the same N objects in the same order; optionally ``void`` bool
                [H, W] and ``semantic`` int64 [H, W] (for a clip [T, H, W]), in which padding becomes True and -1.
            batch: the preprocessed images.
        """
        return [targets_of(x, batch.padded_size, self.device) for x in batched_inputs]
