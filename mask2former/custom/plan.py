"""Choose the settings of a training on custom data by rules from the data and the machine, each with its reason.

docs/custom-data.md explains the rules to users.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode

from mask2former.custom import CustomDataset
from mask2former.custom.settings import TrainingPlan
from mask2former.custom.video_plan import choose_clips, choose_tracks
from mask2former.data.checks import Report
from mask2former.preflight.memory import training_bytes
from mask2former.zoo import PACKAGED

# Usual and largest short side of an image as the network sees it, in pixels, on a GPU and on a CPU.
USUAL_SHORT, USUAL_SHORT_CPU = 800, 320
LONG_TO_SHORT = 2  # limit of a long side, as a multiple of the short side
LEAST_OBJECT = 24  # pixels: smaller objects are enlarged, because masks are predicted at a quarter of the size
MOST_ENLARGED = 2.0
LEAST_CROP, CROP_STEP = 256, 64  # pixels
MOST_IMAGES, MOST_IMAGES_CPU = 16, 4  # in a step, over all GPUs or on the CPU
SHARE_OF_MEMORY = 0.8
MASKED_DECODER, LOCATED_DECODER = "MultiScaleMaskedTransformerDecoder", "LocatedQueryDecoder"
LEAST_LOCATED = 50  # queries
PASSES = {"tuned": 50, "scratch": 100}  # through the training images
SHOWN = {"tuned": (16_000, 800_000), "scratch": (40_000, 1_600_000)}  # total number of images shown: least, most
SHOWN_CPU = 6400  # most images on a CPU, which processes a few a second
LEARNING_RATE, ITS_IMAGES = 0.0001, 16  # as published; the small networks have other rates
EVALUATIONS = 5
LOSS_IMAGES = 100  # at most, whose loss is computed at each evaluation
LEAST_PERIOD = 10  # iterations between two checkpoints


def plan_training(
    cfg: CfgNode,
    data: CustomDataset,
    fixed: Mapping[str, Any],
    *,
    memory: float,
    devices: int = 1,
    cpus: int = 1,
    epochs: float | None = None,
) -> TrainingPlan:
    """Choose the settings that depend on the data and the machine; ``cfg`` is changed in place.

    Args:
        cfg: configuration of the model, with the user's own settings merged in.
        data: registered or not.
        fixed: keys that a person has set.
        memory: free bytes on each device.
        devices: GPUs, or 1 for the CPU.
        cpus: number of processor cores, for loading images.
        epochs: passes through the training images; None: by a rule.
    """
    plan = TrainingPlan(cfg, fixed)
    if data.kind == "video":
        choose_clips(plan, data.report)
    _choose_task(plan, data)
    _choose_sizes(plan, data, memory)
    _choose_batch(plan, data, memory, devices)
    _choose_schedule(plan, data, epochs)
    workers = max(1, min(4, cpus // (2 * devices)))
    plan.choose("DATALOADER.NUM_WORKERS", workers, f"{cpus} processor cores")
    return plan


def on_gpu(cfg: CfgNode) -> bool:
    return cfg.MODEL.DEVICE.startswith("cuda")


def is_from_scratch(cfg: CfgNode) -> bool:
    """Tell whether the head begins with random weights, the backbone too or not."""
    return not cfg.MODEL.WEIGHTS or cfg.MODEL.WEIGHTS in PACKAGED


def _choose_task(plan: TrainingPlan, data: CustomDataset) -> None:
    kind, report = data.kind, data.report
    plan.choose("DATASETS.TRAIN", (data.train.name,), str(data.train.source))
    plan.choose("DATASETS.TEST", (data.val.name,), str(data.val.source) if data.val.only is None else "held out")
    plan.choose("MODEL.SEM_SEG_HEAD.NUM_CLASSES", len(data.categories), "classes in the data")
    if kind == "semantic":
        plan.choose("MODEL.SEM_SEG_HEAD.IGNORE_VALUE", data.ignore_label, "label of pixels without a class")
    if kind != "video":  # whose mapper depends on the data set alone
        plan.choose("INPUT.DATASET_MAPPER_NAME", f"mask_former_{kind}", f"{kind} data")
    labels = kind in ("semantic", "panoptic")
    scored = {"SEMANTIC": labels, "INSTANCE": kind != "semantic", "PANOPTIC": kind == "panoptic"}
    if kind == "panoptic":
        scored["SEMANTIC"] = "sem_seg_root" in data.val.paths
        scored["INSTANCE"] = "json_file" in data.val.paths
    for task, on in scored.items():
        plan.choose(f"MODEL.MASK_FORMER.TEST.{task}_ON", on, f"{kind} data")
    if kind == "panoptic" and is_from_scratch(plan.cfg):
        plan.choose("MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD", 0.35, "a model trained from scratch has low scores")
        plan.choose("MODEL.MASK_FORMER.TEST.OVERLAP_THRESHOLD", 0.6, "a model trained from scratch has low scores")
    empty = f"{report.counts['images without objects']} images" if kind != "video" else "frames"
    plan.choose("DATALOADER.FILTER_EMPTY_ANNOTATIONS", False, f"{empty} without objects teach what is not an object")
    if kind == "video":
        choose_tracks(plan, report)
    elif kind != "semantic":
        _choose_queries(plan, _most_objects(report))


def _choose_queries(plan: TrainingPlan, most: int) -> None:
    """Choose queries enough for ``most`` objects, and where they start."""
    former, why = plan.cfg.MODEL.MASK_FORMER, f"up to {most} objects in an image"
    enough = min(300, 50 * math.ceil(1.2 * most / 50))
    if is_from_scratch(plan.cfg) and former.TRANSFORMER_DECODER_NAME == MASKED_DECODER:
        plan.choose("MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME", LOCATED_DECODER, "learns objects in far fewer steps")
    if former.TRANSFORMER_DECODER_NAME == LOCATED_DECODER:
        terms = [*former.LOSS_TERMS, *(["PlaceLoss"] if "PlaceLoss" not in former.LOSS_TERMS else [])]
        plan.choose("MODEL.MASK_FORMER.LOSS_TERMS", terms, "places where queries start are learnt too")
        plan.choose("MODEL.MASK_FORMER.NUM_LOCATED_QUERIES", max(LEAST_LOCATED, enough), why)
    elif most > 0.9 * former.NUM_OBJECT_QUERIES:
        plan.choose("MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", enough, why)
    queries = former.NUM_OBJECT_QUERIES + former.NUM_LOCATED_QUERIES
    plan.choose("TEST.DETECTIONS_PER_IMAGE", max(100, min(most, queries)), why)


def _most_objects(report: Report) -> int:
    """Return the 99th percentile of the number of objects in an image."""
    counts = sorted(len(areas) for areas in report.objects.values())
    return counts[int(0.99 * (len(counts) - 1))] if counts else 0


def _choose_sizes(plan: TrainingPlan, data: CustomDataset, memory: float) -> None:
    short, reason = _short_side(plan.cfg, data.report)
    plan.choose("INPUT.MIN_SIZE_TEST", _multiple(short, 32), reason)
    test = plan["INPUT.MIN_SIZE_TEST"] or short  # 0: images as they are
    plan.choose("INPUT.MAX_SIZE_TEST", LONG_TO_SHORT * test, f"fits whole images of up to {LONG_TO_SHORT}:1")
    sides = tuple(_multiple(test * share, 32) for share in (0.75, 0.875, 1.0, 1.125, 1.25))
    plan.choose("INPUT.MIN_SIZE_TRAIN", sides, "within a quarter of the test size")
    if data.kind != "video":  # chosen with what else is drawn once for a clip
        plan.choose("INPUT.MIN_SIZE_TRAIN_SAMPLING", "choice", "of these")
    plan.choose("INPUT.MAX_SIZE_TRAIN", LONG_TO_SHORT * max(plan["INPUT.MIN_SIZE_TRAIN"]), "as in the test")
    plan.choose("INPUT.COLOR_AUG_SSD", True, "objects of the same class differ in colour")
    if data.kind == "video":  # clips are cropped before they get their size
        plan.choose("INPUT.CROP.ENABLED", False, "whole frames, which objects do not leave")
        return
    crop, why = _multiple(test, CROP_STEP), "about a whole image"
    if not on_gpu(plan.cfg) and crop > USUAL_SHORT_CPU:
        crop, why = USUAL_SHORT_CPU, "the most that is usual on a CPU"
    while crop > LEAST_CROP and training_bytes(plan.cfg, 1, crop**2) > SHARE_OF_MEMORY * memory:
        crop, why = crop - CROP_STEP, f"the most that fits in {memory / 1e9:.0f} GB of memory"
    plan.choose("INPUT.CROP.ENABLED", True, "images of one size make steps of one size")
    plan.choose("INPUT.CROP.TYPE", "absolute", "pixels")
    plan.choose("INPUT.CROP.SIZE", [crop, crop], why)


def _short_side(cfg: CfgNode, report: Report) -> tuple[float, str]:
    """Return the short side of images at test time, in pixels, and the reason for it."""
    short = statistics.median(min(size) for size in report.sizes)
    areas = [area for areas in report.objects.values() for area in areas]
    side = math.sqrt(statistics.median(areas)) if areas else LEAST_OBJECT
    usual = USUAL_SHORT if on_gpu(cfg) else USUAL_SHORT_CPU
    scale = min(1.0, usual / short)
    why = f"short sides are {short:.0f} pixels"
    if scale < 1:
        why += f"; {usual} are usual{'' if on_gpu(cfg) else ' on a CPU'}"
    wanted = min(LEAST_OBJECT / side, MOST_ENLARGED, max(1.0, USUAL_SHORT / short))
    if wanted <= scale:
        return scale * short, why
    return wanted * short, f"{why}, but objects are {side:.0f} pixels across"


def _choose_batch(plan: TrainingPlan, data: CustomDataset, memory: float, devices: int) -> None:
    cropped = plan["INPUT.CROP.ENABLED"] and data.kind != "video"
    pixels = math.prod(plan["INPUT.CROP.SIZE"]) if cropped else max(plan["INPUT.MIN_SIZE_TRAIN"]) ** 2
    pixels *= _frames(plan, data)  # all of a clip go through the network together
    each = MOST_IMAGES // devices if on_gpu(plan.cfg) else MOST_IMAGES_CPU
    reason = "as published" if on_gpu(plan.cfg) else "a CPU already takes a second or more for these"
    while each > 1 and training_bytes(plan.cfg, each, pixels) > SHARE_OF_MEMORY * memory:
        each, reason = each // 2, f"the most that fits in {memory / 1e9:.0f} GB of memory"
    batch = max(1, each) * devices
    need = training_bytes(plan.cfg, max(1, each), pixels)
    plan.choose("SOLVER.IMS_PER_BATCH", batch, f"{reason}; about {need / 1e9:.1f} GB" + " on each GPU" * (devices > 1))


def _choose_schedule(plan: TrainingPlan, data: CustomDataset, epochs: float | None) -> None:
    cfg, images = plan.cfg, data.train.num_images
    batch = plan["SOLVER.IMS_PER_BATCH"]
    frames = _frames(plan, data)
    start = "scratch" if is_from_scratch(cfg) else "tuned"
    rate, its_batch = LEARNING_RATE, ITS_IMAGES
    if start == "scratch" and cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM <= 128:
        # configs/_base_/lite0.yaml and small_network.yaml
        rate, its_batch = (0.0004, 4) if cfg.MODEL.WEIGHTS in PACKAGED else (0.0005, 8)
    scaled = float(f"{rate * math.sqrt(batch / its_batch):.2g}")
    reason = f"{rate:g} for {its_batch} images, scaled by the square root of the batch size"
    plan.choose("SOLVER.BASE_LR", scaled, reason)
    least, most = SHOWN[start]
    shown, why = PASSES[start] * images, f"{PASSES[start]} passes through {images} images"
    if shown < least:
        shown, why = least, f"at least {least:,} images shown"
    if shown > most:
        shown, why = most, f"at most {most:,} images shown"
    if not on_gpu(cfg) and shown > SHOWN_CPU:
        shown, why = SHOWN_CPU, f"at most {SHOWN_CPU:,} images shown on a CPU; more would help"
    if epochs is not None:
        shown, why = math.ceil(epochs * images), f"{epochs:g} passes through {images} images (--epochs)"
    if frames > 1:
        why += f", {frames} in a clip"
    plan.choose("SOLVER.MAX_ITER", max(1, math.ceil(shown / (batch * frames))), why)
    steps = plan["SOLVER.MAX_ITER"]
    plan.choose("SOLVER.LR_SCHEDULER_NAME", "WarmupPolyLR", "falls to 0 at the end, whatever the length")
    warm_up = min(100, steps // 10)
    plan.choose("SOLVER.WARMUP_ITERS", warm_up, "a careful start" if warm_up else "the training is too short for one")
    if plan["SOLVER.WARMUP_ITERS"]:
        plan.choose("SOLVER.WARMUP_FACTOR", 0.01, "first learning rate, as a share of the full one")
    _choose_periods(plan, data, steps, batch * frames)


def _frames(plan: TrainingPlan, data: CustomDataset) -> int:
    """Return the number of images in an element of a batch."""
    return int(plan["INPUT.SAMPLING_FRAME_NUM"]) if data.kind == "video" else 1


def _choose_periods(plan: TrainingPlan, data: CustomDataset, steps: int, batch: int) -> None:
    """Choose when to write checkpoints and to evaluate. Both happen at the end in any case."""
    period = steps // EVALUATIONS
    if period < LEAST_PERIOD:
        alone = "only at the end, because the training is short"
        plan.choose("SOLVER.CHECKPOINT_PERIOD", steps + 1, alone)
        plan.choose("TEST.EVAL_PERIOD", 0, alone)
        return
    plan.choose("SOLVER.CHECKPOINT_PERIOD", period, "an interruption costs at most a fifth of the time")
    costs_little = on_gpu(plan.cfg) and EVALUATIONS * data.val.num_images < steps * batch / 4
    often = f"{EVALUATIONS} times" if costs_little else "only at the end, because it takes long"
    wanted = costs_little or plan["SOLVER.PATIENCE"] > 0
    plan.choose(
        "TEST.EVAL_PERIOD", period if wanted else 0, often if costs_little or not wanted else "for the patience"
    )
    if plan["TEST.EVAL_PERIOD"] and data.kind != "video":
        few = min(LOSS_IMAGES, data.val.num_images)
        plan.choose("TEST.LOSS_IMAGES", few, "shows when the network begins to learn the training images by heart")


def _multiple(value: float, step: int) -> int:
    return max(1, round(value / step)) * step
