"""Files of timm's models, as the weights of a :class:`TimmBackbone`: whatever the model, by its names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

BACKBONE = "backbone.net."
_OURS = ("backbone.", "sem_seg_head.", "model.")


def from_timm(state: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Convert a timm file's names to those of the model's timm backbone; None if it is no file of this backbone.

    timm's models of features write "stages_0.1" where its classifiers write "stages.0.1". What the backbone lacks (the
    classifier) keeps its name and is reported as left over.
    """
    if any(name.startswith(_OURS) for name in state):
        return None
    ours = {_plain(name.removeprefix(BACKBONE)): name for name in model if name.startswith(BACKBONE)}
    found = {name: ours[_plain(name)] for name in state if _plain(name) in ours}
    if 2 * len(found) <= len(ours) or not ours:
        return None
    return {found.get(name, name): value for name, value in state.items()}


def _plain(name: str) -> str:
    return name.replace(".", "_")
