"""The configuration of a model to train on custom data, and its initial weights."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode

from mask2former.config.load import ConfigError, load_config
from mask2former.config.names import CONFIGS, find_config
from mask2former.zoo import PACKAGED, models, weights_file

# Small networks that learn on a CPU: EfficientNet-Lite0 with ImageNet weights, and ResNet-18 from scratch.
SMALL, SMALL_R18 = "small", "small_r18"
NO_WEIGHTS = (
    "{error}\nTo do without these weights: --weights FILE starts from a file that you have, --from-scratch from random "
    "weights (which needs far more images), and --model small_r18 from a small network that can be trained on a CPU."
)


def configuration(
    model: str, weights: str | None, from_scratch: bool, opts: Sequence[str]
) -> tuple[CfgNode, Mapping[str, Any]]:
    """Return the model's configuration with the user's settings merged in, and those settings by key.

    Args:
        model: "small", "small_r18" (which is also "small" from scratch), a name of the zoo, or a YAML file.
        weights: a value for ``MODEL.WEIGHTS``; None for the model's own.
        from_scratch: begin with random weights.
        opts: the user's settings: KEY, value, KEY, value, ...

    Raises:
        ConfigError: there is no such model, its weights cannot be fetched, or ``opts`` has a fault.
    """
    fixed = dict(zip(opts[::2], opts[1::2], strict=False))
    cfg = settings(model, from_scratch, opts)
    if "MODEL.WEIGHTS" in fixed:
        weights = cfg.MODEL.WEIGHTS
    elif weights is None and not from_scratch:
        weights = model if model in models() else cfg.MODEL.WEIGHTS
    if weights:
        try:
            found = weights_file(weights)
            cfg.MODEL.WEIGHTS = weights if weights in PACKAGED else found
        except OSError as error:
            raise ConfigError(NO_WEIGHTS.format(error=error)) from error
    else:
        _from_scratch(cfg)
    # Again, because the user's settings override those made above; the device was chosen by what there is.
    again = {key: value for key, value in fixed.items() if key != "MODEL.DEVICE"}
    cfg.merge_from_list([word for pair in again.items() for word in pair])
    return cfg, fixed


def settings(model: str, from_scratch: bool, opts: Sequence[str]) -> CfgNode:
    """Return the model's configuration with the user's settings merged in, before its weights are looked for.

    Args and errors are those of :func:`configuration`.
    """
    return load_config(_file(SMALL_R18 if model == SMALL and from_scratch else model), opts)


def _from_scratch(cfg: CfgNode) -> None:
    """Prepare training from random weights: one learning rate for all, and normalisation that learns."""
    cfg.MODEL.WEIGHTS = ""
    cfg.SOLVER.BACKBONE_MULTIPLIER = 1.0
    if "ResNet" in cfg.MODEL.BACKBONE.NAME or "resnet" in cfg.MODEL.BACKBONE.NAME:
        cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.TIMM.PRETRAINED = False


def _file(model: str) -> str:
    if model in (SMALL, SMALL_R18):
        return str(CONFIGS / "_base_" / f"custom_{model}.yaml")
    if model.endswith(".yaml"):
        return model
    if (found := find_config(model)) is not None:
        return str(found)
    close = difflib.get_close_matches(model, [SMALL, SMALL_R18, *models()], n=3, cutoff=0.3)
    raise ConfigError(
        f"--model {model}: not {SMALL!r}, a name of a configuration or a .yaml file. Similar: {', '.join(close)}; "
        "`python -m mask2former.zoo` lists them all."
    )
