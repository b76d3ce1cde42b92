"""Write a configuration as Hugging Face's ``Mask2FormerConfig`` and ``Mask2FormerImageProcessor`` have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode

Json = dict[str, Any]
LEVELS = ["res2", "res3", "res4", "res5"]
STAGES = ["stage1", "stage2", "stage3", "stage4"]
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
# key -> the values that their model has a place for
REQUIRED: dict[str, tuple[Any, ...]] = {
    "MODEL.META_ARCHITECTURE": ("MaskFormer",),
    "MODEL.SEM_SEG_HEAD.NAME": ("MaskFormerHead",),
    "MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME": ("MSDeformAttnPixelDecoder",),
    "MODEL.SEM_SEG_HEAD.NORM": ("GN",),
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": (LEVELS,),
    "MODEL.SEM_SEG_HEAD.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES": (LEVELS[1:],),
    "MODEL.SEM_SEG_HEAD.COMMON_STRIDE": (4,),
    "MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME": ("MultiScaleMaskedTransformerDecoder",),
    "MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE": ("multi_scale_pixel_decoder",),
    "MODEL.MASK_FORMER.PRE_NORM": (False,),
    "MODEL.MASK_ENCODER.ENABLED": (False,),
    "MODEL.BACKBONE.NAME": ("D2SwinTransformer", "build_resnet_backbone"),
    "INPUT.FORMAT": ("RGB",),
}
REQUIRED_OF_SWIN: dict[str, tuple[Any, ...]] = {"MODEL.SWIN.QK_SCALE": (None,), "MODEL.SWIN.PATCH_NORM": (True,)}
REQUIRED_OF_RESNETS: dict[str, tuple[Any, ...]] = {
    "MODEL.RESNETS.STRIDE_IN_1X1": (False,),
    "MODEL.RESNETS.NUM_GROUPS": (1,),
    "MODEL.RESNETS.RES5_DILATION": (1,),
    "MODEL.RESNETS.DEFORM_ON_PER_STAGE": ([False] * 4,),
    "MODEL.RESNETS.NORM": ("FrozenBN", "BN", "SyncBN"),
    "MODEL.RESNETS.DEPTH": tuple(BLOCKS),
}

# Where nothing but these has no place, as in a small model that train-custom makes by its own rules: how to train one.
BACKBONE, DECODER = "MODEL.BACKBONE.NAME", "MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME"
INSTEAD = {BACKBONE: " --model small_r18", DECODER: f" {DECODER} MultiScaleMaskedTransformerDecoder"}


def model_config(cfg: CfgNode, names: Sequence[str]) -> Json:
    """Return the content of ``config.json``.

    Args:
        cfg: configuration of a model.
        names: names of its K classes.

    Raises:
        ValueError: their model has no place for a value; the message names the key.
    """
    backbone = REQUIRED_OF_SWIN if cfg.MODEL.BACKBONE.NAME == "D2SwinTransformer" else REQUIRED_OF_RESNETS
    _require(cfg, REQUIRED | (backbone if cfg.MODEL.BACKBONE.NAME in REQUIRED["MODEL.BACKBONE.NAME"] else {}))
    head, former = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER
    if len(names) != head.NUM_CLASSES:
        raise ValueError(f"MODEL.SEM_SEG_HEAD.NUM_CLASSES is {head.NUM_CLASSES}, but the metadata name {len(names)}.")
    return {
        "architectures": ["Mask2FormerForUniversalSegmentation"],
        "model_type": "mask2former",
        "backbone_config": _swin(cfg) if cfg.MODEL.BACKBONE.NAME == "D2SwinTransformer" else _resnet(cfg),
        "feature_size": head.CONVS_DIM,
        "mask_feature_size": head.MASK_DIM,
        "hidden_dim": former.HIDDEN_DIM,
        "encoder_feedforward_dim": head.DEFORMABLE_TRANSFORMER_ENCODER_DIM_FEEDFORWARD,
        "encoder_layers": head.TRANSFORMER_ENC_LAYERS,
        "decoder_layers": former.DEC_LAYERS,
        "num_attention_heads": former.NHEADS,
        "dim_feedforward": former.DIM_FEEDFORWARD,
        "dropout": former.DROPOUT,
        "activation_function": "relu",
        "pre_norm": False,
        "enforce_input_projection": former.ENFORCE_INPUT_PROJ,
        "common_stride": head.COMMON_STRIDE,
        "feature_strides": [4, 8, 16, 32],
        "num_queries": former.NUM_OBJECT_QUERIES,
        "ignore_value": head.IGNORE_VALUE,
        "no_object_weight": former.NO_OBJECT_WEIGHT,
        "class_weight": former.CLASS_WEIGHT,
        "mask_weight": former.MASK_WEIGHT,
        "dice_weight": former.DICE_WEIGHT,
        "train_num_points": former.TRAIN_NUM_POINTS,
        "oversample_ratio": former.OVERSAMPLE_RATIO,
        "importance_sample_ratio": former.IMPORTANCE_SAMPLE_RATIO,
        "use_auxiliary_loss": former.DEEP_SUPERVISION,
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
    }


def processor_config(cfg: CfgNode) -> Json:
    """Return the content of ``preprocessor_config.json``: how an image becomes the network's input."""
    shortest, longest = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
    return {
        "image_processor_type": "Mask2FormerImageProcessor",
        "do_resize": shortest > 0,
        "size": {"shortest_edge": shortest or 800, "longest_edge": longest},
        "size_divisor": max(32, cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY),
        "resample": 2,  # bilinear
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [value / 255 for value in cfg.MODEL.PIXEL_MEAN],
        "image_std": [value / 255 for value in cfg.MODEL.PIXEL_STD],
        "ignore_index": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        "do_reduce_labels": False,
    }


def _swin(cfg: CfgNode) -> Json:
    swin = cfg.MODEL.SWIN
    return {
        "model_type": "swin",
        "image_size": swin.PRETRAIN_IMG_SIZE,
        "patch_size": swin.PATCH_SIZE,
        "embed_dim": swin.EMBED_DIM,
        "depths": list(swin.DEPTHS),
        "num_heads": list(swin.NUM_HEADS),
        "window_size": swin.WINDOW_SIZE,
        "mlp_ratio": swin.MLP_RATIO,
        "qkv_bias": swin.QKV_BIAS,
        "hidden_dropout_prob": swin.DROP_RATE,
        "attention_probs_dropout_prob": swin.ATTN_DROP_RATE,
        "drop_path_rate": swin.DROP_PATH_RATE,
        "use_absolute_embeddings": swin.APE,
        "out_features": STAGES,
    }


def _resnet(cfg: CfgNode) -> Json:
    resnets = cfg.MODEL.RESNETS
    first = resnets.RES2_OUT_CHANNELS
    return {
        "model_type": "resnet",
        "embedding_size": resnets.STEM_OUT_CHANNELS,
        "hidden_sizes": [first, 2 * first, 4 * first, 8 * first],
        "depths": list(BLOCKS[resnets.DEPTH]),
        "layer_type": "basic" if resnets.DEPTH < 50 else "bottleneck",
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": False,
        "out_features": STAGES,
    }


def _require(cfg: CfgNode, required: dict[str, tuple[Any, ...]]) -> None:
    faults = {}
    for key, values in required.items():
        found: Any = cfg
        for part in key.split("."):
            found = found[part]
        found = list(found) if isinstance(found, tuple) else found
        if found not in values:
            allowed = " or ".join(repr(value) for value in values)
            faults[key] = f"{key} is {found!r}; Hugging Face's Mask2Former has a place for {allowed} only."
    if faults:
        advice = []
        if not faults.keys() - INSTEAD.keys():
            words = "".join(INSTEAD[key] for key in (BACKBONE, DECODER) if key in faults)
            command = f"mask2former train-custom --train ...{words}"
            advice.append(f"Trained weights cannot become such parts. Train anew: {command}.")
            if DECODER in faults:
                advice.append("Its queries are learnt alone then, which takes far more iterations.")
        raise ValueError("\n".join([*faults.values(), *advice]))
