"""Build the compared models with the same weights: ours, and Hugging Face's Mask2Former."""

from __future__ import annotations

import importlib
import json
import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import ImageList
from torch import Tensor, nn

from benchmarks.hugging_face import backbone_config
from mask2former.checkpoint import MaskFormerCheckpointer
from mask2former.checkpoint.hf import to_hf
from mask2former.config import load_config
from mask2former.data import register_all
from mask2former.engine.precision import AmpSettings
from mask2former.measure.images import block_image
from mask2former.measure.timing import Seconds
from mask2former.modeling.meta_arch import MaskFormer

CONFIGS = Path(__file__).parents[2] / "configs"
MODELS = {
    "r50": "coco/panoptic/r50.yaml",
    "swin": "coco/panoptic/swin.yaml",
    "swin_large": "coco/panoptic/swin_large_in21k.yaml",
}
TASKS = ("panoptic", "instance", "semantic")
Part = tuple[object, str, str]  # owner and name of a method, and the part to which its time belongs


@dataclass(frozen=True)
class Setting:
    """The case that is measured.

    Attributes:
        model: one of MODELS, or a configuration file.
        size: (H, W) of the images in pixels.
        batch: images at a time.
        dtype: dtype of autocast; float32: no autocast.
        task: the kinds of results, joined by "+".
        objects: queries that hold an object; the random weights of the class head are scaled and biased for it.
        queries: total number of queries; None: as configured.
        mixed: images of a batch have different sizes, the largest ``size``.
        compile: "" (not compiled), "fixed" or "dynamic" sizes; only ours.
        weights: file of weights for ours; "": random.
    """

    model: str
    size: tuple[int, int] = (800, 1067)
    batch: int = 1
    dtype: str = "float32"
    task: str = "panoptic"
    objects: int = 20
    queries: int | None = None
    mixed: bool = False
    compile: str = ""
    weights: str = ""

    def images(self) -> list[Tensor]:
        """Make images, uint8 [3, H, W], of coarse random blocks: plain noise would look the same everywhere."""
        generator = torch.Generator().manual_seed(0)
        images = []
        for index in range(self.batch):
            shrink = 1 - 0.4 * index / self.batch if self.mixed else 1
            size = [max(32, round(length * shrink)) for length in self.size]
            images.append(block_image((size[0], size[1]), generator))
        return images


@dataclass
class Implementation:
    """A model that segments images.

    Attributes:
        run: images -> results.
        parts: methods whose times are those of the parts.
    """

    run: Callable[[list[Tensor]], Any]
    parts: list[Part]


def configuration(setting: Setting, device: str = "cpu") -> CfgNode:
    register_all("datasets")
    cfg = load_config(str(CONFIGS / MODELS[setting.model]) if setting.model in MODELS else setting.model)
    cfg.defrost()
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = device, ""
    if setting.queries:
        cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES = setting.queries
    for task in TASKS:
        cfg.MODEL.MASK_FORMER.TEST[f"{task.upper()}_ON"] = task in setting.task.split("+")
    return cfg


def our_model(setting: Setting, device: str = "cpu") -> MaskFormer:
    torch.manual_seed(0)
    model = build_model(configuration(setting, device)).eval()
    if setting.weights:
        MaskFormerCheckpointer(model).load(setting.weights)
    else:
        _hold_objects(model, setting)
    return model


@torch.no_grad()
def _hold_objects(model: MaskFormer, setting: Setting) -> None:
    """Scale and bias the class head so that its scores are high and ``objects`` queries hold an object."""
    head = model.sem_seg_head.predictor.class_embed
    image = setting.images()[0]
    logits = model.predict([{"image": image}])[0][0]
    head.weight *= 40 / logits.std()
    logits = model.predict([{"image": image}])[0][0]
    margins = (logits[:, :-1].amax(1) - logits[:, -1]).sort(descending=True).values
    count = min(setting.objects, len(margins) - 1)
    head.bias[-1] += (margins[count - 1] + margins[count]) / 2 if count else margins[0] + 1


def ours(setting: Setting, device: str = "cpu", model: MaskFormer | None = None) -> Implementation:
    """Wrap ours: ``model`` from :func:`our_model`, or a new one."""
    model = model or our_model(setting, device)
    if setting.compile:
        dynamic = setting.compile == "dynamic"
        model.backbone = torch.compile(model.backbone, dynamic=dynamic)
        model.sem_seg_head = torch.compile(model.sem_seg_head, dynamic=dynamic)
    precision = AmpSettings(device, getattr(torch, setting.dtype))

    @torch.inference_mode()
    def run(images: list[Tensor]) -> list[dict[str, Any]]:
        with precision.autocast():
            return model([{"image": image} for image in images])

    head = model.sem_seg_head
    parts: list[Part] = [(model.backbone, "forward", "backbone")]
    if not setting.compile:  # parts inside a compiled graph cannot be timed
        parts += [(head.pixel_decoder, "forward", "pixel decoder"), (head.predictor, "forward", "transformer decoder")]
    return Implementation(run, parts)


def hugging_face(
    setting: Setting, device: str = "cpu", model: MaskFormer | None = None, theirs: Any = None
) -> Implementation:
    """Wrap Hugging Face's model, with the weights of ours.

    Args:
        model: ours, from :func:`our_model`; None: a new one.
        theirs: made from it by :func:`their_model`; None: a new one.

    Raises:
        ImportError: transformers is not installed.
        ValueError: Hugging Face has no such model.
    """
    transformers = importlib.import_module("transformers")
    model = model or our_model(setting, device)
    theirs = theirs or their_model(setting, model)
    processor = transformers.Mask2FormerImageProcessor()
    precision = AmpSettings(device, getattr(torch, setting.dtype))
    mean, std, divisibility = model.pixel_mean, model.pixel_std, model.size_divisibility
    stuff = set(range(theirs.config.num_labels)) - model.post_processing.things
    thresholds = {"threshold": model.object_mask_threshold, "overlap_mask_area_threshold": model.overlap_threshold}
    del model

    @torch.inference_mode()
    def run(images: list[Tensor]) -> Any:
        normalised = [(image.to(device) - mean) / std for image in images]
        batch = ImageList.from_tensors(normalised, divisibility)
        with precision.autocast():
            outputs = theirs(pixel_values=batch.tensor)
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        if setting.task == "panoptic":
            return processor.post_process_panoptic_segmentation(
                outputs, label_ids_to_fuse=stuff, target_sizes=sizes, **thresholds
            )
        return getattr(processor, f"post_process_{setting.task}_segmentation")(outputs, target_sizes=sizes)

    base = theirs.model
    parts: list[Part] = [
        (base.pixel_level_module.encoder, "forward", "backbone"),
        (base.pixel_level_module.decoder, "forward", "pixel decoder"),
        (base.transformer_module, "forward", "transformer decoder"),
    ]
    return Implementation(run, parts)


def their_model(setting: Setting, model: MaskFormer) -> nn.Module:
    """Return Hugging Face's model of the same sizes, with the weights of ours and on its device."""
    if setting.model not in MODELS:
        raise ValueError(f"Hugging Face's is built for {', '.join(MODELS)}, not for a configuration file.")
    transformers = importlib.import_module("transformers")
    predictor = model.sem_seg_head.predictor
    config = transformers.Mask2FormerConfig(
        backbone_config=backbone_config(configuration(setting)),
        num_labels=predictor.class_embed.out_features - 1,
        dropout=0.0,
        num_queries=predictor.query_embed.num_embeddings,
    )
    with model.device:  # draws the initial weights on the device, which is faster
        theirs = transformers.Mask2FormerForUniversalSegmentation(config)
    report = theirs.load_state_dict(to_hf(model.state_dict()), strict=False)
    if report.unexpected_keys:
        raise RuntimeError(f"Hugging Face's model has no {report.unexpected_keys[:3]}.")
    return theirs.eval().to(model.device)


def other(command: str, setting: Setting, threads: int) -> Implementation:
    """Wrap a command whose last line of output is JSON: seconds of one batch, or {"seconds": ...}.

    ``{model}``, ``{height}``, ``{width}``, ``{batch}``, ``{dtype}`` and ``{threads}`` in it are replaced.
    """
    height, width = setting.size
    words = [
        word.format(
            model=setting.model, height=height, width=width, batch=setting.batch, dtype=setting.dtype, threads=threads
        )
        for word in shlex.split(command)
    ]

    def run(images: Sequence[Tensor]) -> Seconds:
        done = subprocess.run(words, capture_output=True, text=True)
        try:
            told = json.loads(done.stdout.strip().splitlines()[-1])
            return Seconds(told["seconds"] if isinstance(told, dict) else told)
        except (IndexError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"--other: `{shlex.join(words)}` ended with {done.returncode} and did not print seconds as JSON in its "
                f"last line; it printed {done.stdout[-200:]!r} and {done.stderr[-200:]!r}."
            ) from error

    return Implementation(run, [])


IMPLEMENTATIONS = {"ours": ours, "huggingface": hugging_face}
