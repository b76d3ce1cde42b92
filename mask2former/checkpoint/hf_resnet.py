"""Parameter names of Hugging Face's ``ResNetBackbone`` and timm's ResNets inside their Mask2Former, and ours.

Their stride is in the 3x3 convolutions: ``MODEL.RESNETS.STRIDE_IN_1X1`` False.
"""

from __future__ import annotations

from mask2former.checkpoint.renaming import Rule

ENCODER = "model.pixel_level_module.encoder."
TIMM = ENCODER + "_backbone."  # timm's names follow, which are torchvision's
_STEM, _OUR_STEM = ENCODER + "embedder.embedder.", "backbone.stem.conv1."
_BLOCK, _OUR_BLOCK = ENCODER + "encoder.stages.{stage}.layers.{{}}.", "backbone.res{ours}.{{}}."


def _stage(stage: int) -> list[Rule]:
    theirs, ours = _BLOCK.format(stage=stage), _OUR_BLOCK.format(ours=stage + 2)
    rules = [
        (theirs + "shortcut.normalization.", ours + "shortcut.norm."),
        (theirs + "shortcut.convolution.", ours + "shortcut."),
    ]
    for layer in range(3):
        rules += [
            (theirs + f"layer.{layer}.normalization.", ours + f"conv{layer + 1}.norm."),
            (theirs + f"layer.{layer}.convolution.", ours + f"conv{layer + 1}."),
        ]
    return rules


RULES: list[Rule] = [
    (_STEM + "normalization.", _OUR_STEM + "norm."),
    (_STEM + "convolution.", _OUR_STEM),
    *(rule for stage in range(4) for rule in _stage(stage)),
]


def is_timm(name: str) -> bool:
    """Tell whether a parameter belongs to timm's backbone."""
    return name.startswith(TIMM)


def is_derived(name: str) -> bool:
    """Tell whether a parameter of theirs has no counterpart in ours: counts of training steps."""
    return name.startswith(ENCODER) and name.endswith("num_batches_tracked")
