"""Configuration keys of kMaX-DeepLab: the published ones, and what they are called in this project.

Its published files load as they are. The keys of :data:`ALIASES` have a twin below ``MODEL.MASK_FORMER``, which is what
the losses, the results and the evaluation read; a published file's value is copied there when the file is read.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode as CN

META_ARCHITECTURE = "kMaXDeepLab"
_OWN, _HOUSE = "MODEL.KMAX_DEEPLAB.", "MODEL.MASK_FORMER."
_CRITERION = _HOUSE + "CRITERION"

ALIASES = {
    _OWN + name: _HOUSE + name
    for name in (
        "NO_OBJECT_WEIGHT",
        "CLASS_WEIGHT",
        "DICE_WEIGHT",
        "MASK_WEIGHT",
        "DEEP_SUPERVISION",
        "TEST.SEMANTIC_ON",
        "TEST.INSTANCE_ON",
        "TEST.PANOPTIC_ON",
        "TEST.OVERLAP_THRESHOLD",
        "TEST.SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE",
    )
} | {_OWN + "TRANS_DEC.NUM_OBJECT_QUERIES": _HOUSE + "NUM_OBJECT_QUERIES"}
# What every kMaX-DeepLab has here, in the place of keys that the published system lacks.
PARTS: dict[str, Any] = {
    _CRITERION: "PQCriterion",
    _HOUSE + "MATCHER": "PQMatcher",
    _HOUSE + "LOSS_TERMS": ["PQClassLoss", "PQMaskLoss", "MaskIDLoss", "PairwiseInsDisLoss", "SampledSemanticLoss"],
    _HOUSE + "TEST.PANOPTIC_RULE": "MaskwiseMerger",
}
_MAPPERS = ("coco_panoptic_lsj", "ade20k_panoptic_lsj", "cityscapes_panoptic_lsj", "coco_panoptic_kmaxdeeplab")
MAPPER = "kmax_panoptic"
_CANVAS = [1281, 1281]


def add_kmax_config(cfg: CN) -> None:
    """Add the keys to ``cfg``, in place, with the published defaults."""
    node = cfg.MODEL.KMAX_DEEPLAB = CN()
    # Losses. All layers take the matching and the weights of the last prediction; or each its own.
    node.SHARE_FINAL_MATCHING = True
    node.DEEP_SUPERVISION = True  # supervise every layer
    node.NO_OBJECT_WEIGHT = 1e-5  # the least weight of a slot in the loss of classes and masks
    node.CLASS_WEIGHT = 3.0
    node.DICE_WEIGHT = 3.0
    node.MASK_WEIGHT = 0.3  # of the cross-entropy of each pixel's slot
    node.INSDIS_WEIGHT = 1.0  # of instance discrimination between drawn pairs of pixels
    node.AUX_SEMANTIC_WEIGHT = 1.0
    # The auxiliary semantic branch is a decoder to stride 4 with K + 1 classes; or a head on "res5" with K.
    node.USE_AUX_SEMANTIC_DECODER = True
    # Pixels drawn for both losses, and how much rather those of small masks are: probability ~ area ** -temperature.
    node.PIXEL_INSDIS_TEMPERATURE = 1.5
    node.PIXEL_INSDIS_SAMPLE_K = 4096
    node.AUX_SEMANTIC_TEMPERATURE = 2.0
    node.AUX_SEMANTIC_SAMPLE_K = 4096  # 0: all pixels
    node.MASKING_VOID_PIXEL = True  # leave void pixels out of the dice loss
    # Without effect here, read so that published files load.
    node.SAVE_VIS_NUM = 0
    node.CHANNEL_LAST_FORMAT = False
    node.SIZE_DIVISIBILITY = -1  # without effect there too; MODEL.MASK_FORMER.SIZE_DIVISIBILITY has one

    pixels = node.PIXEL_DEC = CN()
    pixels.NAME = "kMaXPixelDecoder"
    pixels.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    # From the coarsest feature on: blocks, their kind, and a quarter of their output's channels.
    pixels.DEC_LAYERS = [1, 5, 1, 1]
    pixels.LAYER_TYPES = ["axial", "axial", "bottleneck", "bottleneck"]
    pixels.DEC_CHANNELS = [512, 256, 128, 64]
    pixels.DROP_PATH_PROB = 0.0
    pixels.NUM_HEADS = 8  # not a published key, nor are the four below

    slots = node.TRANS_DEC = CN()
    slots.NAME = "kMaXTransformerDecoder"
    slots.DEC_LAYERS = [2, 2, 2]  # layers at each of the coarsest levels
    slots.NUM_OBJECT_QUERIES = 128  # slots
    slots.IN_CHANNELS = [2048, 1024, 512]  # not read: the pixel decoder's channels are known
    slots.DROP_PATH_PROB = 0.0
    slots.HIDDEN_DIM = 256  # channels of the slots
    slots.MASK_DIM = 128  # channels of masks' and pixels' embeddings
    slots.DIM_FEEDFORWARD = 2048
    slots.NUM_HEADS = 8
    # Deviation of mask logits at the beginning (not a published key): in short trainings 0.1 would never grow enough.
    slots.MASK_SCALE = 0.1

    test = node.TEST = CN()
    test.SEMANTIC_ON = False
    test.INSTANCE_ON = False
    test.PANOPTIC_ON = True
    # Panoptic: masks of a probability above the first; scores of things and of stuff; order of pasting is by
    # score ** REORDER_CLASS_WEIGHT * mean probability inside ** REORDER_MASK_WEIGHT; least share of free pixels.
    test.PIXEL_CONFIDENCE_THRESHOLD = 0.4
    test.CLASS_THRESHOLD_THING = 0.7
    test.CLASS_THRESHOLD_STUFF = 0.5
    test.REORDER_CLASS_WEIGHT = 1.0
    test.REORDER_MASK_WEIGHT = 1.0
    test.OVERLAP_THRESHOLD = 0.8
    test.SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE = False

    convnext = cfg.MODEL.CONVNEXT = CN()  # MODEL.BACKBONE.NAME: D2ConvNeXt
    convnext.IN_CHANNELS = 3
    convnext.DEPTHS = [3, 3, 27, 3]  # blocks of each stage
    convnext.DIMS = [192, 384, 768, 1536]
    convnext.DROP_PATH_RATE = 0.6
    convnext.LSIT = 1e-6  # start of the factors on the branches (the published spelling)
    convnext.OUT_INDICES = [0, 1, 2, 3]  # not read
    convnext.OUT_FEATURES = ["res2", "res3", "res4", "res5"]  # and "stem"

    # Canvas of kMaX-DeepLab's mapper, [height, width] in pixels, each 32 k + 1; empty: a square of INPUT.IMAGE_SIZE.
    cfg.INPUT.CANVAS = []


def in_house_keys(content: dict[str, Any]) -> dict[str, Any]:
    """Add to the content of a configuration file what its published keys mean here; other models' is left as it is.

    A key of this project that the file names itself stays. A file that names ``MODEL.MASK_FORMER.CRITERION`` is written
    for this project: of its published keys those with a twin are still copied, and no defaults are added.
    """
    if _get(content, "MODEL.META_ARCHITECTURE") != META_ARCHITECTURE:
        return content
    content = copy.deepcopy(content)
    defaults = CN({"MODEL": {}, "INPUT": {}})
    add_kmax_config(defaults)
    published = _get(content, _CRITERION) is None
    for own, house in ALIASES.items():
        value = _get(content, own)
        if value is None and published:
            value = _get(defaults, own)
        if value is not None:
            _set_missing(content, house, value)
    canvas = _get(content, "INPUT.IMAGE_SIZE", _CANVAS if published else None)
    if isinstance(canvas, list | tuple):
        content["INPUT"] = dict(content.get("INPUT", {})) | {"IMAGE_SIZE": max(canvas)}
        _set_missing(content, "INPUT.CANVAS", list(canvas))
        # Every image is padded to this canvas or its upright twin, as published; larger ones to multiples of it.
        _set_missing(content, _HOUSE + "SIZE_DIVISIBILITY", math.gcd(canvas[0] - 1, canvas[1] - 1))
    if published:
        for name, value in PARTS.items():
            _set_missing(content, name, value)
        _set_missing(content, "INPUT.MIN_SCALE", 0.2)
        if _get(content, "INPUT.DATASET_MAPPER_NAME", _MAPPERS[-1]) in _MAPPERS:
            content["INPUT"]["DATASET_MAPPER_NAME"] = MAPPER
    return content


def with_aliases(opts: list[Any]) -> list[Any]:
    """Add to options, key value key value ..., the twins of published keys."""
    pairs = zip(opts[::2], opts[1::2], strict=True)
    return [item for key, value in pairs for item in (key, value, *((ALIASES[key], value) if key in ALIASES else ()))]


def as_house_keys(cfg: CN) -> CN:
    """Return a configuration that was merged by Detectron2's own functions with what its published keys mean here."""
    if _get(cfg, _CRITERION) != "SetCriterion":
        return cfg
    changed = cfg.clone()
    changed.defrost()
    for name, value in ({house: _get(cfg, own) for own, house in ALIASES.items()} | PARTS).items():
        _set(changed, name, value)
    return changed


def _get(node: Mapping[str, Any], name: str, default: Any = None) -> Any:
    for part in name.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return default
        node = node[part]
    return node


def _set(node: dict[str, Any], name: str, value: Any) -> None:
    *parts, last = name.split(".")
    for part in parts:
        node = node.setdefault(part, {})
    node[last] = value


def _set_missing(node: dict[str, Any], name: str, value: Any) -> None:
    if _get(node, name) is None:
        _set(node, name, value)
