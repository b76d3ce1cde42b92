"""Run a trained model on images in any usual form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from detectron2.config import CfgNode

from mask2former.backends import require_backend, use_backend
from mask2former.data.images.limits import set_max_pixels
from mask2former.data.mapper.augmentation import ResizeShortestEdge
from mask2former.predictor.arguments import at_least_one, check_threshold
from mask2former.predictor.batches import Entry, of_one_size
from mask2former.predictor.following import choose_tracker, linked
from mask2former.predictor.lazy_outputs import LazyOutputs
from mask2former.predictor.load_image import LoadedImage, find_images, is_many, load_image
from mask2former.predictor.model_input import marked_image, model_input
from mask2former.predictor.outline import outline_of
from mask2former.predictor.resolve_model import model_config, model_metadata
from mask2former.predictor.result import Result
from mask2former.predictor.trained_model import build_trained
from mask2former.predictor.video import Frames, is_film, load_one
from mask2former.predictor.weights import tasks_of, trained_weights
from mask2former.predictor.whole_outputs import outputs_of
from mask2former.predictor.windows import Windows, in_windows, sees_clips
from mask2former.tiling import TiledInference, check_tiles, on_cpu
from mask2former.tracking import Tracker


class Predictor:
    """Build a model, load its weights and run it on images.

    Args:
        model: a published model's name (``python -m mask2former.zoo`` lists them); a configuration file; a training's
            output folder, or weights in one; or a configuration from :func:`mask2former.engine.load_config`.
        weights: used in place of the model's own: a file, a published model's name, a URL or ``hf://org/name``.
        device: such as "cpu" or "cuda:1"; ``MODEL.DEVICE`` if None, or the CPU if there is no GPU.
        threshold: 0 to 1. Instances with a lower score are left out; for panoptic results, queries with a lower score
            take no part (of another architecture, segments with a lower score). None: 0.5 for instances, and the
            configuration's value for panoptic results.
        tasks: some of "panoptic", "instance", "semantic"; all that the configuration switches on if None.
        batch_size: number of images that go through the network at a time, if a call has several.
        tile: images with a longer side, in pixels, are not shrunk to the configuration's size but cut into tiles of
            this side, whose results are joined: see :class:`mask2former.tiling.TiledInference`. None: all are shrunk.
        overlap: overlap of neighbouring tiles, in pixels.
        tile_if_needed: cut an image that does not fit into memory whole into tiles of half its size, or a quarter, and
            so on, and say so; its results are then not those of the whole image. If False, it is an error.
        backend: engine that runs the network: "torch", "onnxruntime" or "openvino", the latter two on the CPU. Reading,
            resizing and all that follows the network are the same (docs/export.md, "As a backend").
        program: file for such an engine, such as one in int8; see :func:`mask2former.backends.use_backend`.
        opts: changes of the configuration: ``["KEY", "value", ...]``.
        allow_unsafe_config: run the code in tags such as ``!!python/object`` of the configuration file.

    Attributes:
        model: in evaluation mode, on ``MODEL.DEVICE``.
        metadata: names, colours and ids of the classes.
        names: names of the classes, by their number.
        tasks: the kinds of results that it returns; the first is the default.

    Raises:
        ValueError: no weights, or those of a backbone alone; no known classes; a task that is not switched on; a
            threshold outside of [0, 1]; tiles not more than twice as large as their overlap; a batch_size below 1; or
            a backend that is not known, not installed, or not for this model (``BackendError``).
        FileNotFoundError: the model or one of its files does not exist.
        ConfigError: the configuration cannot be used.
        DownloadError: the weights cannot be downloaded.
    """

    def __init__(
        self,
        model: str | Path | CfgNode,
        weights: str | None = None,
        *,
        device: str | None = None,
        threshold: float | None = None,
        tasks: Sequence[str] | None = None,
        batch_size: int = 1,
        tile: int | None = None,
        overlap: int = 128,
        tile_if_needed: bool = False,
        backend: str = "torch",
        program: str | Path | None = None,
        opts: Sequence[str] = (),
        allow_unsafe_config: bool = False,
    ) -> None:
        check_threshold(threshold)
        require_backend(backend)
        if tile is not None:
            check_tiles(tile, overlap)
        if device is not None:
            opts = [*opts, "MODEL.DEVICE", device]
        cfg = model_config(model, weights, opts, allow_unsafe_config)
        self.batch_size = at_least_one(batch_size)
        self.threshold = threshold
        self.tile, self.overlap, self.tile_if_needed = tile, overlap, tile_if_needed
        set_max_pixels(cfg.INPUT.MAX_PIXELS)
        self.tasks = tasks_of(cfg, tasks)
        self.metadata = model_metadata(cfg)
        file = trained_weights(cfg.MODEL.WEIGHTS)  # before the model, which takes a while to build
        self.model = build_trained(cfg, file)
        use_backend(self.model, backend, program)
        self._bgr = cfg.INPUT.FORMAT == "BGR"
        self._resize = ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes, by their number."""
        things, stuff = (self.metadata.get(f"{kind}_classes", ()) for kind in ("thing", "stuff"))
        return tuple(stuff if len(stuff) >= len(things) else things)

    @overload
    def __call__(self, source: np.ndarray, mask: Any = None, *, threshold: float | None = None) -> Result: ...
    @overload
    def __call__(self, source: Any, mask: Any = None, *, threshold: float | None = None) -> Any: ...
    def __call__(self, source: Any, mask: Any = None, *, threshold: float | None = None) -> Result | list[Result]:
        """Predict on an image, or on many.

        Args:
            source: one image as :func:`mask2former.predictor.load_image.load_image` takes it (path, URL, bytes, file
                object, array, tensor, PIL image); or a list of such, a folder or a glob. The results of several images
                are computed at once, so that none keeps the network's output; for more than fit into memory, use
                :meth:`stream`.
            mask: with one image, the pixels that are marked in it, as
                :func:`mask2former.predictor.load_image.load_mask` takes them. A model with a mask encoder
                (``MODEL.MASK_ENCODER``) looks for the objects that are meant; any other sees and labels those pixels
                alone.
            threshold: used in place of the predictor's.

        Returns:
            The result, of the image's size; a list of them for several images.

        Raises:
            ValueError: a mask for several images, or with tiles; one that :func:`load_mask` refuses; a threshold
                outside of [0, 1]; or a film.
        """
        if mask is not None:
            return next(self.stream([marked_image(source, mask, self.tile)], threshold=threshold))
        if is_film(source):
            raise ValueError(f"{source} is a film: for the results of its frames, call predictor.stream({source!r}).")
        if not is_many(source):
            return next(self.stream([source], threshold=threshold))
        sources = find_images(source) if isinstance(source, (str, Path)) else source
        return [result.compute() for result in self.stream(sources, threshold=threshold)]

    def refine(self, source: Any, mask: Any) -> np.ndarray:
        """Return the true outline of what a coarse mask means: bool [H, W].

        It is the union of the network's masks that are objects by more than half, or the likeliest one if none is.

        Args:
            source: one image.
            mask: a box, a click's disc or whatever else marks the object, as for calling the predictor.

        Raises:
            ValueError: the model has no mask encoder; or see :meth:`__call__`.
        """
        if not getattr(self.model, "takes_masks", False):
            raise ValueError(
                "This model was trained without MODEL.MASK_ENCODER, so it cannot refine a mask. Called with a mask, it "
                "labels the marked pixels."
            )
        return outline_of(self.model, self._input(marked_image(source, mask, self.tile)))

    def stream(
        self,
        sources: Iterable[Any] | str | Path | int,
        batch_size: int | None = None,
        *,
        track: bool | Tracker | None = None,
        windows: Windows | None = None,
        threshold: float | None = None,
    ) -> Iterator[Result]:
        """Yield the results of a film's frames, or of many images, one after another, holding at most a batch.

        A batch ends early if the size of the images changes, because padding an image to another one's size would
        change its result.

        Args:
            sources: a film: its file, a folder or glob of images, the number of a camera, or
                :class:`mask2former.predictor.video.Frames` for a part of it. Or images as
                :func:`mask2former.predictor.load_image.load_image` takes them, read when needed.
            batch_size: used in place of the predictor's.
            track: link objects from frame to frame: instances have ``tracks``, panoptic ids stay, and classes are those
                of the whole track so far. None: in films, and with ``windows``. A tracker of your own, to change how it
                links.
            windows: how a film is cut for a model that sees clips (``VideoMaskFormer``), which then follows by itself.
                None: as its settings say, see
                :class:`mask2former.modeling.postprocess.ClipSettings`.
            threshold: used in place of the predictor's.

        Returns:
            An iterator with a result for each image, in order.

        Raises:
            ValueError: batch_size is below 1; a threshold outside of [0, 1]; tracking with tiles, or of a network
                without query embeddings; or windows for a model that does not see clips, with a tracker of your own or
                with ``track=False``.
            OSError: the film cannot be opened, or not be decoded from some frame on.
        """
        check_threshold(threshold)
        threshold = self.threshold if threshold is None else threshold
        size = at_least_one(self.batch_size if batch_size is None else batch_size)
        if isinstance(sources, str | Path | int):
            sources = Frames(sources)
        tracker = choose_tracker(
            track,
            sources,
            model=self.model,
            tasks=self.tasks,
            threshold=threshold,
            tiled=self.tile is not None,
            windows=windows,
        )
        if tracker is not None and tracker is not track and sees_clips(self.model):
            return self._clips(sources, windows or self.model.post_processing.clips.windows, tracker.start, threshold)
        return self._stream(sources, size, tracker, threshold)

    def _clips(
        self, sources: Iterable[Any], windows: Windows, start: float, threshold: float | None
    ) -> Iterator[Result]:
        frames = ((image, self._input(image)) for image in map(load_one, sources))
        for image, outputs in in_windows(self.model, frames, windows, start):
            yield self._result(image, outputs, threshold)

    def _stream(
        self, sources: Iterable[Any], batch_size: int, tracker: Tracker | None, threshold: float | None
    ) -> Iterator[Result]:
        entries = ((image, self._input(image)) for image in map(load_one, sources))
        for batch in of_one_size(entries, batch_size):
            yield from self._results(batch, tracker, threshold)

    def outputs(self, image: np.ndarray) -> dict[str, Any]:
        """Return the model's output for an image [H, W, 3] uint8, RGB, of any size, in Detectron2's form.

        Returns:
            Those that are switched on of ``sem_seg`` [K, H, W] float, ``panoptic_seg`` (int32 [H, W], segments) and
            ``instances`` of any score, on the model's device; with tiles, on the CPU.
        """
        with torch.no_grad():
            inputs = self._input(LoadedImage(image))
            if self.tile is not None and self._is_large(image):
                return TiledInference(self.model, self.tile, self.overlap)([inputs])[0]
            outputs = self.model([inputs])[0]
            return outputs if self.tile is None else on_cpu(outputs)

    def padded(self, image: Any) -> torch.Tensor:
        """Return an image as the network of a mask architecture sees it: float32 [1, 3, H, W], normalised and padded.

        Args:
            image: one image as for calling the predictor.
        """
        return self.model.preprocess([self._input(load_image(image))]).images.tensor

    def _input(self, image: LoadedImage) -> dict[str, Any]:
        return model_input(image, None if self._is_large(image.pixels) else self._resize, bgr=self._bgr)

    def _is_large(self, image: np.ndarray) -> bool:
        """Tell whether an image is cut into tiles."""
        return self.tile is not None and max(image.shape[:2]) > self.tile

    def _results(self, batch: list[Entry], tracker: Tracker | None, threshold: float | None) -> list[Result]:
        outputs = self._outputs([entry for _, entry in batch])
        if tracker is not None:
            outputs = [linked(one, tracker) for one in outputs]
        return [
            self._result(image, output, threshold, None if tracker is not None else partial(self._once_more, image))
            for (image, _), output in zip(batch, outputs, strict=True)
        ]

    def _result(
        self,
        image: LoadedImage,
        outputs: LazyOutputs,
        threshold: float | None,
        again: Callable[[], LazyOutputs] | None = None,
    ) -> Result:
        return Result(
            image.pixels,
            outputs,
            metadata=self.metadata,
            names=self.names,
            tasks=self.tasks,
            threshold=threshold,
            file_name=image.name,
            seconds=image.seconds,
            again=again,
        )

    def _once_more(self, image: LoadedImage) -> LazyOutputs:
        return self._outputs([self._input(image)])[0]

    def _outputs(self, inputs: list[dict[str, Any]]) -> list[LazyOutputs]:
        """Return the outputs of images of one size."""
        return outputs_of(self.model, inputs, self.tasks, self.tile, self.overlap, self.tile_if_needed)
