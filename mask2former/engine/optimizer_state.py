"""Load an optimiser's state only where it fits: PyTorch checks no shape, and its kernels then write out of bounds."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mask2former.checkpoint.sharded import sharded_like

logger = logging.getLogger(__name__)
SHAPES = "parameter_shapes"  # key beside PyTorch's "state" and "param_groups"


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the optimiser's state with the shapes of its parameters."""
    return {**optimizer.state_dict(), SHAPES: [list(parameter.shape) for parameter in _parameters(optimizer)]}


def load_optimizer_state(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any], model: nn.Module) -> list[str]:
    """Load a state; for parameters of another shape it starts anew, which is logged.

    Args:
        optimizer: the optimiser, in place.
        saved: from :func:`optimizer_state`, or any optimiser's ``state_dict()``.
        model: has the parameters, for their names.

    Returns:
        Names of the parameters whose state starts anew.

    Raises:
        ValueError: the state is of another number of parameters, or the groups differ.
    """
    theirs = [len(group["params"]) for group in saved["param_groups"]]
    ours = [len(group["params"]) for group in optimizer.param_groups]
    if theirs != ours:
        raise ValueError(
            f"The checkpoint's optimiser has {sum(theirs)} parameters in {len(theirs)} groups, this one "
            f"{sum(ours)} in {len(ours)}: it belongs to another network or SOLVER.OPTIMIZER, and training cannot go "
            "on from it. To start again from its weights: MODEL.WEIGHTS FILE, another OUTPUT_DIR, and no --resume."
        )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    shapes = saved.get(SHAPES) or [None] * len(numbers)
    state, anew = dict(saved["state"]), []
    for number, parameter, shape in zip(numbers, _parameters(optimizer), shapes, strict=True):
        if number in state and not _fits(state[number], parameter, shape):
            del state[number]
            anew.append(names.get(id(parameter), f"parameter {number}").removeprefix("module."))
    if anew:
        logger.warning("The optimiser state of these parameters has other shapes and is reset: %s.", ", ".join(anew))
    for number, parameter in zip(numbers, _parameters(optimizer), strict=True):
        if number in state:
            state[number] = {
                key: sharded_like(value, parameter) if isinstance(value, Tensor) else value
                for key, value in state[number].items()
            }
    optimizer.load_state_dict({"state": state, "param_groups": saved["param_groups"]})
    return anew


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _fits(state: Mapping[str, Any], parameter: Tensor, shape: list[int] | None) -> bool:
    """Tell whether the state is of such a parameter.

    A checkpoint that knows the parameter's shape is believed, since some optimisers keep rows and columns alone. In
    others, every tensor has to have the parameter's shape, or to be a number, such as the count of steps.
    """
    if shape is not None:
        return list(parameter.shape) == list(shape)
    tensors = [value for value in state.values() if isinstance(value, Tensor)]
    return all(value.dim() == 0 or value.shape == parameter.shape for value in tensors)
