"""Weights of MaX-DeepLab under the names of TensorFlow's variables (deeplab2), and under ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

_MEMORY = "encoder/memory_feature"
_OUR_MEMORY = "backbone.memory_feature"
_OBJECT_PATH = "/.ATTRIBUTES/VARIABLE_VALUE"
_ENCODER, _BACKBONE = "encoder/", "backbone."

# Beginnings of names, ours and TensorFlow's, where more than the separators differ. The first that fits is taken.
_HEAD = "sem_seg_head."
_SEMANTIC = _HEAD + "semantic."
_MODULES = [
    ("backbone.stem.conv1_bn.", "encoder/stem/"),  # of a stem with a single convolution
    (_HEAD + "class_feature.", "encoder/class_feature_extra/"),
    (_HEAD + "mask_feature.", "encoder/mask_feature_extra/"),
    (_HEAD + "predictor._pixel_space_head_conv0bnact.", "pixel_space_head/conv_block/conv1_bn_act/depthwise/"),
    (_HEAD + "predictor._pixel_space_head_conv1bnact.", "pixel_space_head/conv_block/conv1_bn_act/pointwise/"),
    (_HEAD + "predictor._pixel_space_head_last_convbn.conv.", "pixel_space_head/final_conv/"),
    (_HEAD + "predictor._pixel_space_head_last_convbn.norm.", "pixel_space_feature_batch_norm/"),
    (_HEAD + "predictor._pixel_space_mask_batch_norm.", "pixel_space_mask_batch_norm/"),
    (_HEAD + "predictor._transformer_mask_head.", "transformer_mask_head/"),
    (_HEAD + "predictor._transformer_class_head.", "transformer_class_head/"),
    (_SEMANTIC + "_aspp._aspp_conv0.", "auxiliary_semantic_decoder/aspp/conv_bn_act/"),
    *(
        (f"{_SEMANTIC}_aspp._{name}.", f"auxiliary_semantic_decoder/aspp/{name}/conv_bn_act/")
        for name in ("aspp_conv1", "aspp_conv2", "aspp_conv3", "aspp_pool")
    ),
    (_SEMANTIC + "_aspp._proj_conv_bn_act.", "auxiliary_semantic_decoder/aspp/proj_conv_bn_act/"),
    *(
        (f"{_SEMANTIC}_low_level_{ours}.", f"auxiliary_semantic_decoder/{theirs}/")
        for ours, theirs in (
            ("projection_os8", "low_level_conv1"),
            ("projection_os4", "low_level_conv2"),
            ("fusion_os8_conv0_bn_act", "fusion_conv1/conv1_bn_act/depthwise"),
            ("fusion_os8_conv1_bn_act", "fusion_conv1/conv1_bn_act/pointwise"),
            ("fusion_os4_conv0_bn_act", "fusion_conv2/conv1_bn_act/depthwise"),
            ("fusion_os4_conv1_bn_act", "fusion_conv2/conv1_bn_act/pointwise"),
        )
    ),
    (_SEMANTIC + "conv_block_0.", "auxiliary_semantic_head/conv_block/conv1_bn_act/depthwise/"),
    (_SEMANTIC + "conv_block_1.", "auxiliary_semantic_head/conv_block/conv1_bn_act/pointwise/"),
    (_SEMANTIC + "final_conv.conv.", "auxiliary_semantic_head/final_conv/"),
]
_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_OUR_NORM = {theirs: ours for ours, theirs in _NORM.items()}
_NORM_OF_ATTENTION = re.compile("batch_norm_(qkv|similarity|retrieved_output|retrieved_value)")


def is_ours(state: Mapping[str, object]) -> bool:
    """Tell whether the names are ours, of a MaX-DeepLab."""
    return _OUR_MEMORY in state


def is_published(state: Mapping[str, object]) -> bool:
    """Tell whether the names are those of TensorFlow's variables, of a whole model or of a pre-trained encoder."""
    return any(name.startswith("encoder/stem/") for name in state)


def variable_name(name: str) -> str:
    """Return the name of TensorFlow's variable for one of our parameters or statistics."""
    for ours, theirs in _MODULES:
        if name.startswith(ours):
            path = theirs + name.removeprefix(ours).replace(".", "/")
            break
    else:
        path = name.replace(_BACKBONE, _ENCODER, 1).replace(".", "/")
    parts = [part.lstrip("_") for part in path.split("/")]
    *modules, leaf = parts
    last = modules[-1]
    if modules[-2:] == ["qkv_transform", "conv"]:
        return "/".join([*modules[:-2], "qkv_kernel"])
    if last.endswith("embeddings"):
        return "/".join(modules)
    if last == "norm" or last.endswith("batch_norm") or _NORM_OF_ATTENTION.fullmatch(last):
        return "/".join([*modules[:-1], "batch_norm" if last == "norm" else last, _NORM[leaf]])
    if leaf == "weight":
        depthwise = last == "conv" and modules[-2] == "depthwise"
        return "/".join([*modules[:-1], "depthwise_conv", "depthwise_kernel"] if depthwise else [*modules, "kernel"])
    return "/".join(parts)


def our_name(variable: str) -> str:
    """Return our name for one of TensorFlow's variables."""
    *modules, leaf = variable.split("/")
    if leaf == "qkv_kernel":
        modules, leaf = [*modules, "qkv_transform", "conv"], "weight"
    elif leaf == "embeddings":
        modules, leaf = [*modules, "_embeddings"], "weight"
    elif leaf == "depthwise_kernel":
        modules, leaf = [*modules[:-1], "conv"], "weight"
    elif leaf == "kernel":
        leaf = "weight"
    elif leaf in _OUR_NORM:
        leaf = _OUR_NORM[leaf]
        if modules[-1] == "batch_norm":
            modules[-1] = "norm"
    path = "/".join([*modules, leaf])
    for ours, theirs in _MODULES:
        if path.startswith(theirs) and not (theirs == "encoder/stem/" and re.match("encoder/stem/conv[0-9]", path)):
            return ours + path.removeprefix(theirs).replace("/", ".")
    private = re.compile("batch_norm_(qkv|similarity|retrieved)|(height|width)_axis$|(query|key|value)_rpe$")
    parts = ["_" + part if private.match(part) else part for part in path.removeprefix(_ENCODER).split("/")]
    return _BACKBONE + ".".join(parts)


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert our weights to TensorFlow's variables; counts of batches, which it lacks, are left out."""
    converted = {}
    for name, value in state.items():
        if not name.endswith("num_batches_tracked"):
            variable = variable_name(name)
            converted[variable] = _to_variable(variable, value, _heads(name, state))
    return converted


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert TensorFlow's variables to our weights; counters of steps and the like are left out."""
    weights = {variable: value for variable, value in state.items() if _is_weight(variable)}
    return {our_name(variable): _from_variable(variable, value) for variable, value in weights.items()}


def _is_weight(variable: str) -> bool:
    leaf = variable.rsplit("/", 1)[-1]
    known = leaf in _OUR_NORM or leaf in ("kernel", "bias", "depthwise_kernel", "qkv_kernel", "embeddings")
    return known or variable == _MEMORY


def _heads(name: str, state: Mapping[str, Tensor]) -> int:
    """Return the number of heads of the attention that a norm belongs to, which has an axis there; 1 for others."""
    attention, found, _ = name.partition("_batch_norm_")
    logits = state.get(f"{attention}_batch_norm_similarity.weight") if found else None
    if logits is None:
        return 1
    return len(logits) // 3 if attention.endswith("_axis.") else len(logits)


def _to_variable(variable: str, value: Tensor, heads: int) -> Tensor:
    leaf = variable.rsplit("/", 1)[-1]
    if leaf == "depthwise_kernel":
        return value.permute(2, 3, 0, 1)  # [C, 1, kh, kw] -> [kh, kw, C, 1]
    if leaf == "qkv_kernel":
        return value[:, :, 0].T
    if leaf == "kernel":
        return value.permute(2, 3, 1, 0) if value.ndim == 4 else value.permute(2, 1, 0)
    if leaf in _OUR_NORM:
        if "batch_norm_retrieved_output" in variable:
            return value.view(2, 1, heads, 1, -1)
        if "batch_norm_retrieved_value" in variable:
            return value.view(1, heads, 1, -1)
        if "_axis/batch_norm_similarity" in variable:
            return value.view(3, 1, heads, 1, 1)
    return value


def _from_variable(variable: str, value: Tensor) -> Tensor:
    leaf = variable.rsplit("/", 1)[-1]
    if leaf == "depthwise_kernel":
        return value.permute(2, 3, 0, 1).contiguous()
    if leaf == "qkv_kernel":
        return value.T[:, :, None].contiguous()
    if leaf == "kernel":
        return (value.permute(3, 2, 0, 1) if value.ndim == 4 else value.permute(2, 1, 0)).contiguous()
    return value.flatten() if leaf in _OUR_NORM else value


def of_object_paths(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the object paths of a checkpoint file to the names of variables; all else is left out.

    Paths have "_" before their parts, ".../_stage4/_block2/_conv1_bn_act/_conv/kernel", and say
    "/.ATTRIBUTES/VARIABLE_VALUE" at their end.
    """
    renamed = {}
    for path, value in state.items():
        if not _is_path(path):
            continue
        name = "/".join(part.lstrip("_") for part in path.removesuffix(_OBJECT_PATH).split("/"))
        name = re.sub("^.*?(?=encoder/|(semantic|pixel_space|transformer)_)", "", name)
        name = re.sub("^semantic_decoder/", "auxiliary_semantic_decoder/", name)
        name = re.sub("^semantic_head_without_last_layer/", "auxiliary_semantic_head/conv_block/", name)
        name = re.sub("^semantic_last_layer/", "auxiliary_semantic_head/final_conv/", name)
        if _is_weight(name):
            renamed[name] = value
    return renamed


def read_tensorflow(prefix: str) -> dict[str, Tensor]:
    """Read a checkpoint file of TensorFlow under the names of its variables.

    Args:
        prefix: path of the files without ".index" and ".data-00000-of-00001".

    Raises:
        ImportError: TensorFlow is not installed.
        ValueError: the file holds no MaX-DeepLab.
    """
    try:
        import tensorflow  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError as error:
        raise ImportError(
            f"{prefix} is a checkpoint of TensorFlow, which is needed to read it, once: pip install tensorflow. Then "
            "write what read_tensorflow returns with mask2former.checkpoint.weights_io.write."
        ) from error
    reader = tensorflow.train.load_checkpoint(prefix)
    wanted = [path for path in reader.get_variable_to_shape_map() if _is_path(path)]
    paths = {path: torch.as_tensor(np.asarray(reader.get_tensor(path))) for path in wanted}  # counters are no arrays
    variables = of_object_paths(paths)
    if not is_published(variables):
        raise ValueError(f"{prefix} holds no MaX-DeepLab: there is no encoder/stem among {len(paths)} variables.")
    return variables


def _is_path(path: str) -> bool:
    return path.endswith(_OBJECT_PATH) and ".OPTIMIZER_SLOT" not in path


def to_hf(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Refuse, because there is no such model.

    Raises:
        ValueError: always.
    """
    raise ValueError('Hugging Face has no MaX-DeepLab; take the target "published" or "ours".')
