"""A small network of every family, with the losses and results that its quickstart configuration trains it for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Instances
from torch import Tensor, nn

from mask2former.config import load_config
from mask2former.modeling.meta_arch import SegmentationModel

CONFIGS = Path(__file__).parents[1] / "configs" / "quickstart"
CLASSES = 12  # of the quickstart's data

COMMON: list[object] = [
    *("MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.AMP.ENABLED", False),
    *("INPUT.MIN_SIZE_TRAIN", "[64]", "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", CLASSES, "TEST.EVAL_PERIOD", 0),
    *("MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD", 0.0, "MODEL.MASK_FORMER.TEST.OVERLAP_THRESHOLD", 0.0),
    *("TEST.DETECTIONS_PER_IMAGE", 10, "TEST.PRECISE_BN.NUM_ITER", 2),
]
RESNET = [  # a thin R50, whose weights are a tenth of R18's
    *("MODEL.RESNETS.DEPTH", 50, "MODEL.RESNETS.STEM_OUT_CHANNELS", 8, "MODEL.RESNETS.RES2_OUT_CHANNELS", 16),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", 4),
]
SEGVIT = [
    *("MODEL.VIT.IMAGE_SIZE", 64, "MODEL.VIT.EMBED_DIM", 24, "MODEL.VIT.DEPTH", 6, "MODEL.VIT.NUM_HEADS", 4),
    *("MODEL.SEM_SEG_HEAD.CONVS_DIM", 16, "MODEL.MASK_FORMER.HIDDEN_DIM", 16, "MODEL.MASK_FORMER.NHEADS", 4),
    *("MODEL.MASK_FORMER.DIM_FEEDFORWARD", 32),
]


@dataclass(frozen=True)
class Family:
    """A family's small network.

    Attributes:
        file: configuration below ``configs/quickstart``.
        options: what makes it small.
        results: kinds of results that it gives.
        recomputed: parts that ``MODEL.CHECKPOINT`` names.
    """

    file: str
    options: Sequence[object]
    results: tuple[str, ...] = ("sem_seg", "panoptic_seg", "instances")
    recomputed: tuple[str, ...] = ("backbone",)

    def configuration(self, *options: object) -> CfgNode:
        return load_config(str(CONFIGS / self.file), [str(word) for word in (*COMMON, *self.options, *options)])


FAMILIES = {
    "mask2former": Family(
        "panoptic.yaml",
        [
            *("MODEL.SEM_SEG_HEAD.CONVS_DIM", 32, "MODEL.SEM_SEG_HEAD.MASK_DIM", 32),
            *("MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", 1, "MODEL.MASK_FORMER.HIDDEN_DIM", 32),
            *("MODEL.MASK_FORMER.DEC_LAYERS", 3, "MODEL.MASK_FORMER.TRAIN_NUM_POINTS", 64),
            *("MODEL.MASK_FORMER.NUM_LOCATED_QUERIES", 0),
            *("MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME", "MultiScaleMaskedTransformerDecoder"),
            *("MODEL.MASK_FORMER.LOSS_TERMS", "['ClassLoss', 'MaskAndDiceLoss']", *RESNET),
        ],
        recomputed=("backbone", "pixel_decoder", "transformer_decoder"),
    ),
    "segvit": Family("segvit.yaml", SEGVIT, ("sem_seg",), ("backbone", "transformer_decoder")),
    "shrunk": Family(
        "segvit.yaml",
        [
            *(*SEGVIT, "MODEL.VIT.SHRINK_BLOCK", 2, "MODEL.VIT.OUT_BLOCKS", "[1, 5]"),
            *("MODEL.SEM_SEG_HEAD.IN_FEATURES", "['block1', 'block5']"),
            *("MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME", "QueryUpsamplingPixelDecoder"),
            *("MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME", "AttentionToMaskDecoder"),
        ],
        ("sem_seg",),
        ("backbone", "transformer_decoder"),
    ),
    "eomt": Family(
        "eomt.yaml",
        [
            *("MODEL.VIT.IMAGE_SIZE", 64, "MODEL.VIT.EMBED_DIM", 32, "MODEL.VIT.DEPTH", 4, "MODEL.EOMT.NUM_BLOCKS", 2),
            *("MODEL.EOMT.ANNEAL_START", "[0, 2]", "MODEL.EOMT.ANNEAL_END", "[2, 4]"),
            *("MODEL.MASK_FORMER.TRAIN_NUM_POINTS", 64),
        ],
    ),
    "kmax": Family(
        "kmax.yaml",
        [
            *RESNET,
            *("MODEL.KMAX_DEEPLAB.PIXEL_DEC.DEC_CHANNELS", "[16, 8, 8, 8]"),
            *("MODEL.KMAX_DEEPLAB.TRANS_DEC.HIDDEN_DIM", 32, "MODEL.KMAX_DEEPLAB.TRANS_DEC.MASK_DIM", 16),
            *("MODEL.KMAX_DEEPLAB.TRANS_DEC.DIM_FEEDFORWARD", 32),
            *("MODEL.KMAX_DEEPLAB.TRANS_DEC.DEC_LAYERS", "[1, 1]"),
            *("MODEL.KMAX_DEEPLAB.TRANS_DEC.NUM_OBJECT_QUERIES", CLASSES),
            *(
                "MODEL.KMAX_DEEPLAB.TEST.CLASS_THRESHOLD_THING",
                0.0,
                "MODEL.KMAX_DEEPLAB.TEST.CLASS_THRESHOLD_STUFF",
                0.0,
            ),
            *("MODEL.KMAX_DEEPLAB.TEST.PIXEL_CONFIDENCE_THRESHOLD", 0.02),
        ],
        recomputed=("backbone", "pixel_decoder", "transformer_decoder"),
    ),
    "max_deeplab": Family(
        "max_deeplab.yaml",
        [
            *("MODEL.AXIAL_RESNET.STEM_CHANNELS", "[4, 8]", "MODEL.AXIAL_RESNET.DEPTHS", "[0, 1, 1, 2, 1]"),
            *("MODEL.AXIAL_RESNET.CHANNELS", "[8, 16, 32, 32, 64]", "MODEL.MAX_DEEPLAB.MEMORY_CHANNELS", 16),
            *("MODEL.MAX_DEEPLAB.KEY_CHANNELS", 8, "MODEL.MAX_DEEPLAB.DIM_FEEDFORWARD", 24),
            *("MODEL.MAX_DEEPLAB.HEAD_CHANNELS", 12, "MODEL.MAX_DEEPLAB.PIXEL_HEAD_CHANNELS", 8),
            *("MODEL.MAX_DEEPLAB.MASK_DIM", 8, "MODEL.MAX_DEEPLAB.MASK_SCALE", 30.0),
            *("MODEL.MAX_DEEPLAB.TEST.CLASS_THRESHOLD", 0.0),
            *("MODEL.MAX_DEEPLAB.TEST.PIXEL_CONFIDENCE_THRESHOLD", 0.02, "MODEL.MAX_DEEPLAB.TEST.THING_AREA_LIMIT", 0),
            *("MODEL.MAX_DEEPLAB.TEST.STUFF_AREA_LIMIT", 0),
        ],
    ),
}


def network(family: Family, *options: object) -> SegmentationModel:
    """Build it with weights of which no part is silent: a new network may say "no object" and have branches of 0."""
    torch.manual_seed(0)
    model = build_model(family.configuration(*options))
    if model.device.type == "meta":  # has no values
        return model
    with torch.no_grad():
        for module in model.modules():
            weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
            if isinstance(weight, Tensor) and weight.dim() == 1 and not weight.any():
                weight.fill_(0.5)
            if isinstance(bias, Tensor) and len(bias) == CLASSES + 1:
                bias[-1] = -10
                assert isinstance(weight, nn.Parameter)
                nn.init.normal_(weight, std=0.5)
        if hasattr(model, "annealing"):
            model.annealing.probabilities.zero_()  # as a training leaves them
            model.annealing.values()
    return model


def image(height: int = 72, width: int = 100) -> Tensor:
    """Draw coarse blobs, uint8 [3, H, W]: noise would look the same everywhere."""
    coarse = torch.rand(1, 3, 5, 7, generator=torch.Generator().manual_seed(3))
    return (nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0].clamp(0, 1) * 255).byte()


def batch() -> list[dict[str, object]]:
    """Give two images of 64 pixels with two masks each."""
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, 10:40, 4:34] = True
    masks[1] = ~masks[0]
    instances = Instances((64, 64), gt_masks=BitMasks(masks), gt_classes=torch.tensor([0, 7]))
    one = image(64, 64)
    return [{"image": one, "instances": instances}, {"image": one.flip(1), "instances": instances}]
