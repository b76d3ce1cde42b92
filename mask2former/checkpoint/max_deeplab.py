"""Weights of MaX-DeepLab: TensorFlow's variables of the published system to ours, and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor

_END = "/.ATTRIBUTES/VARIABLE_VALUE"
_STAGE = r"((?:decoder_)?stage\d+(?:_extra)?)"
# Parts of the head: name in a variable, in an object's path of a checkpoint file, and here.
_HEAD = [
    ("auxiliary_semantic_decoder/", "semantic_decoder/", "sem_seg_head.semantic.decoder."),
    ("auxiliary_semantic_head/conv_block/", "semantic_head_without_last_layer/", "sem_seg_head.semantic.conv."),
    ("auxiliary_semantic_head/final_conv/", "semantic_last_layer/", "sem_seg_head.semantic.last."),
    ("pixel_space_head/conv_block/", "pixel_space_head/conv_block/", "sem_seg_head.pixel_conv."),
    ("pixel_space_head/final_conv/", "pixel_space_head/final_conv/", "sem_seg_head.pixel_last."),
    ("transformer_mask_head/", "transformer_mask_head/", "sem_seg_head.mask_embed."),
    ("transformer_class_head/conv/", "transformer_class_head/_conv/", "sem_seg_head.class_logits."),
    ("pixel_space_feature_batch_norm/", "pixel_space_feature_batch_norm/", "sem_seg_head.pixel_norm."),
    ("pixel_space_mask_batch_norm/", "pixel_space_mask_batch_norm/", "sem_seg_head.mask_norm."),
]
_FEATURES = {"class_feature_extra/": "sem_seg_head.class_feature.", "mask_feature_extra/": "sem_seg_head.mask_feature."}
# Names of modules below those: theirs, and ours.
_MODULES = [
    ("aspp/proj_conv_bn_act", "aspp.project"),
    ("aspp/aspp_pool/conv_bn_act", "aspp.pool"),
    *((f"aspp/aspp_conv{i}/conv_bn_act", f"aspp.conv{i}") for i in (1, 2, 3)),
    ("aspp/conv_bn_act", "aspp.conv0"),
    *((f"low_level_conv{i}", f"low{i}") for i in (1, 2)),
    *((f"fusion_conv{i}/conv1_bn_act", f"fuse{i}") for i in (1, 2)),
    *((f"{path}_qkv_conv_bn", f"{path}_qkv") for path in ("memory", "pixel")),
    *((f"memory_ffn_conv{i}_bn{end}", f"memory_ffn{i}") for i, end in ((1, "_act"), (2, ""))),
    *(
        (f"{path}_conv{i}_bn{end}", f"{path}_conv{i}")
        for path in ("memory", "pixel")
        for i, end in ((1, "_act"), (3, ""))
    ),
    *((f"attention/{axis}_axis", f"attention._{axis}_axis") for axis in ("height", "width")),
    *((f"{path}_attention", f"{path}_attention") for path in ("memory", "pixel")),
]
# Names of arrays: theirs, and ours.
_ARRAYS = {
    "depthwise_conv/depthwise_kernel": "conv.weight",
    "qkv_kernel": "qkv_transform.conv.weight",
    **{f"{kind}_rpe/embeddings": f"_{kind}_rpe._embeddings.weight" for kind in ("query", "key", "value")},
}
_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
_AXIAL_NORMS = ("batch_norm_qkv", "batch_norm_similarity", "batch_norm_retrieved_output")
_COUNT = ".num_batches_tracked"


def is_ours(state: Mapping[str, object]) -> bool:
    """Tell whether the names are those of a whole MaX-DeepLab, ours."""
    return "backbone.memory" in state and "sem_seg_head.mask_norm.weight" in state


def is_published(state: Mapping[str, object]) -> bool:
    """Tell whether the names are TensorFlow's, of variables or of a checkpoint's objects."""
    names = {variable_of(name) for name in state}
    return "memory_feature" in names and any(name.startswith("stem/") for name in names)


def variable_of(path: str) -> str:
    """Return the name of the variable at an object's path of a checkpoint file; other names stay."""
    path = path.removesuffix(_END)
    for variable, place, _ in _HEAD:
        if path.startswith(place):
            path = variable + path.removeprefix(place)
    return "/".join(part.removeprefix("_") for part in path.removeprefix("encoder/").split("/"))


def path_of(variable: str) -> str:
    """Return the path in a checkpoint file of a variable: the inverse of :func:`variable_of`."""
    for name, place, _ in _HEAD:
        if variable.startswith(name):
            return place + _with_underscores(variable.removeprefix(name)) + _END
    return "encoder/" + _with_underscores(variable) + _END


def _with_underscores(name: str) -> str:
    *parts, last = name.split("/")
    return "/".join([*(f"_{part}" for part in parts), last])


def our_name(variable: str) -> str:
    """Return our name of a published variable.

    Raises:
        ValueError: there is no such variable in MaX-DeepLab.
    """
    if variable == "memory_feature":
        return "backbone.memory"
    patterns: list[tuple[str, Callable[[re.Match[str]], str]]] = [
        (r"stem/conv(\d)_bn(?:_act)?/", lambda m: f"backbone.stem.{int(m[1]) - 1}."),
        (r"stem/", lambda m: "backbone.stem.0."),
        (_STAGE + r"_resized_fuse/(?:resized|strided)_conv_bn1/", lambda m: f"backbone.stages.{m[1]}.junction.conv."),
        (_STAGE + r"/block(\d+)_transformer/", lambda m: f"backbone.dual_paths.{m[1]}.{int(m[2]) - 1}."),
        (_STAGE + r"/block(\d+)/", lambda m: f"backbone.stages.{m[1]}.blocks.{int(m[2]) - 1}."),
        *((re.escape(theirs), lambda m, ours=ours: ours) for theirs, _, ours in _HEAD),
        *((re.escape(theirs), lambda m, ours=ours: ours) for theirs, ours in _FEATURES.items()),
    ]
    for pattern, place in patterns:
        if match := re.match(pattern, variable):
            return place(match) + _inside(variable[match.end() :], place(match))
    raise ValueError(f"{variable} is not the name of a variable of MaX-DeepLab; found in a file of another model.")


def _inside(name: str, place: str) -> str:
    result = ""
    for theirs, ours in _MODULES:
        if name.startswith(theirs + "/"):
            result, name = ours + ".", name.removeprefix(theirs + "/")
            break
    if match := re.match(r"conv(\d)_bn(?:_act)?/", name):
        separable = place.endswith((".semantic.conv.", ".pixel_conv."))
        result, name = result + ("" if separable else f"conv{match[1]}."), name[match.end() :]
    if match := re.match(r"(depthwise|pointwise|shortcut)/", name):
        result, name = result + match[1] + ".", name[match.end() :]
    if name in _ARRAYS:
        return result + _ARRAYS[name]
    *parts, last = name.split("/")
    kind = "/".join(parts)
    if last in _NORM:
        names = {"batch_norm": "norm.", "": ""} | {norm: f"_{norm}." for norm in _AXIAL_NORMS}
        if result.endswith(("memory_attention.", "pixel_attention.")):
            names |= {"batch_norm_similarity": "norm_similarity.", "batch_norm_retrieved_value": "norm_value."}
        return result + names[kind] + _NORM[last]
    return result + ("conv." if kind == "conv" else "") + {"kernel": "weight", "bias": "bias"}[last]


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert variables, by name or path of a checkpoint file; slots of the optimiser and counters are left out."""
    converted = {}
    for name, value in state.items():
        if name.endswith(_END) and "/.OPTIMIZER_SLOT/" not in name and _is_weight(name):
            converted[our_name(variable_of(name))] = _to_ours(variable_of(name), value)
        elif not name.endswith(_END) and _is_weight(name):
            converted[our_name(name)] = _to_ours(name, value)
    return converted


def _is_weight(name: str) -> bool:
    places = ("encoder/", *(place for _, place, _ in _HEAD))
    return name.startswith(places) if name.endswith(_END) else "/" in name or name == "memory_feature"


def _to_ours(variable: str, value: Tensor) -> Tensor:
    last = variable.rsplit("/", 1)[-1]
    if last == "depthwise_kernel":
        return value.permute(2, 3, 0, 1).contiguous()
    if last == "qkv_kernel":
        return value.T[..., None].contiguous()
    if last == "kernel":  # [kh, kw, in, out] or [1, in, out]
        return value.permute(3, 2, 0, 1).contiguous() if value.ndim == 4 else value.permute(2, 1, 0).contiguous()
    if last == "memory_feature":
        return value[0]
    return value.flatten() if last in _NORM else value


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert our weights to the published variables, by their names; :func:`path_of` gives those of a file.

    Raises:
        ValueError: a weight has no place there, such as that of a network with other attentions.
    """
    variables = {name: variable_name(name, state) for name in state if not name.endswith(_COUNT)}
    return {theirs: _to_theirs(theirs, name, state) for name, theirs in variables.items()}


def variable_name(name: str, state: Mapping[str, Tensor]) -> str:
    """Return the published name of one of our weights; shapes tell resizing junctions from striding ones."""
    if name == "backbone.memory":
        return "memory_feature"
    for candidate in _candidates(name, state):
        if our_name(candidate) == name:
            return candidate
    raise ValueError(f"{name} has no place among the variables of the published MaX-DeepLab.")


def _candidates(name: str, state: Mapping[str, Tensor]) -> list[str]:
    """Return published names that may be that of ours, to be tried by the way there."""
    place, rest = "", name
    if match := re.match(r"backbone\.stem\.(\d+)\.", name):
        count = sum(re.fullmatch(r"backbone\.stem\.\d+\.conv\.weight", other) is not None for other in state)
        end = "_act" if int(match[1]) < count - 1 else ""
        place = "stem/" if count == 1 else f"stem/conv{int(match[1]) + 1}_bn{end}/"
    elif match := re.match(rf"backbone\.stages\.{_STAGE}\.junction\.conv\.", name):
        out, into = state[f"backbone.stages.{match[1]}.junction.conv.conv.weight"].shape[:2]
        place = f"{match[1]}_resized_fuse/{'strided' if out > into else 'resized'}_conv_bn1/"
    elif match := re.match(rf"backbone\.dual_paths\.{_STAGE}\.(\d+)\.", name):
        place = f"{match[1]}/block{int(match[2]) + 1}_transformer/"
    elif match := re.match(rf"backbone\.stages\.{_STAGE}\.blocks\.(\d+)\.", name):
        place = f"{match[1]}/block{int(match[2]) + 1}/"
    if match:
        rest = name[match.end() :]
    else:
        for theirs, ours in (*((theirs, ours) for theirs, _, ours in _HEAD), *_FEATURES.items()):
            if name.startswith(ours):
                place, rest = theirs, name.removeprefix(ours)
    modules = [""]
    for theirs, ours in _MODULES:
        if rest.startswith(ours + "."):
            modules, rest = [theirs + "/"], rest.removeprefix(ours + ".")
            break
    basic = f"{name.partition('.conv2.')[0]}.conv3.conv.weight" not in state
    if match := re.match(r"conv(\d)\.", rest):
        last = match[1] == "3" or (match[1] == "2" and basic)
        modules, rest = [f"conv{match[1]}_bn{'' if last else '_act'}/"], rest[match.end() :]
    elif place in ("auxiliary_semantic_head/conv_block/", "pixel_space_head/conv_block/"):
        modules = ["conv1_bn_act/"]
    if match := re.match(r"(depthwise|pointwise|shortcut)\.", rest):
        modules, rest = [modules[0] + match[1] + "/"], rest[match.end() :]
    norms = {ours: theirs for theirs, ours in _NORM.items()}
    inverse = {ours: theirs for theirs, ours in _ARRAYS.items() if "depthwise" not in theirs}
    *parts, own = rest.split(".")
    ends = [inverse[rest]] if rest in inverse else []
    kinds = {
        "norm": "batch_norm/",
        "norm_similarity": "batch_norm_similarity/",
        "norm_value": "batch_norm_retrieved_value/",
        "": "",
    } | {f"_{norm}": f"{norm}/" for norm in _AXIAL_NORMS}
    if (kind := ".".join(parts)) in kinds and (kind or "norm" in place):
        ends.append(kinds[kind] + norms.get(own, ""))
    if rest == "conv.weight":
        ends.append("depthwise_conv/depthwise_kernel" if modules[0].endswith("depthwise/") else "conv/kernel")
    if rest in ("weight", "bias") and "norm" not in place:
        ends.append({"weight": "kernel", "bias": "bias"}[rest])
    return [place + module + end for module in modules for end in ends]


def _to_theirs(variable: str, name: str, state: Mapping[str, Tensor]) -> Tensor:
    value = state[name]
    *parts, last = variable.split("/")
    norm = parts[-1] if parts else ""
    if last == "depthwise_kernel":
        return value.permute(2, 3, 0, 1).contiguous()
    if last == "qkv_kernel":
        return value[..., 0].T.contiguous()
    if last == "kernel":
        return value.permute(2, 3, 1, 0).contiguous() if value.ndim == 4 else value.permute(2, 1, 0).contiguous()
    if last == "memory_feature":
        return value[None]
    if last not in _NORM or "attention" not in name:
        return value
    place = name.rsplit(".", 2)[0]
    if norm == "batch_norm_similarity":
        return value.view(3, 1, -1, 1, 1) if "_axis" in variable else value
    if norm == "batch_norm_retrieved_output":
        heads = len(state[f"{place}._batch_norm_similarity.weight"]) // 3
        return value.view(2, 1, heads, 1, -1)
    if norm == "batch_norm_retrieved_value":
        return value.view(1, len(state[f"{place}.norm_similarity.weight"]), 1, -1)
    return value


def to_hf(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Refuse, because there is no such model.

    Raises:
        ValueError: always.
    """
    raise ValueError('Hugging Face has no MaX-DeepLab; take the target "published" or "ours".')
