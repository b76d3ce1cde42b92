"""States of a training whose tensors are spread over its processes, from and to tensors that each file holds whole.

PyTorch's sharded tensors (DTensor) are told by their methods, so that nobody who only reads weights imports them.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn


def is_sharded(model: nn.Module) -> bool:
    """Tell whether parameters of a model are spread over the processes (``SOLVER.SHARDING``)."""
    return any(hasattr(parameter, "full_tensor") for parameter in model.parameters())


def whole_tensor(tensor: Tensor) -> Tensor:
    """Return a sharded tensor whole, on its device, for which all processes have to call it; any other as it is."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def whole(state: Any, keep: bool = True) -> Any:
    """Return a state with whole tensors on the CPU in place of sharded ones; all processes have to call it.

    Args:
        state: a tensor, or dicts and lists of anything; equal on all processes but for the shards.
        keep: False on processes that take part, but need no result: one tensor at a time is all they hold.
    """
    if isinstance(state, Tensor) and hasattr(state, "full_tensor"):
        full = whole_tensor(state.detach())
        return full.cpu() if keep else None
    if isinstance(state, dict):
        result = copy.copy(state)  # a module's has its layers' versions too, as an attribute
        for key, value in state.items():
            result[key] = whole(value, keep)
        return result
    if isinstance(state, list):
        return [whole(value, keep) for value in state]
    return state


def local(tensor: Tensor) -> Tensor:
    """Return this process's part of a sharded tensor, which shares its memory; any other tensor as it is."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def sharded_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return a tensor that all processes have whole, sharded as a parameter of its shape is; else as it is."""
    if not hasattr(parameter, "full_tensor") or hasattr(tensor, "full_tensor") or tensor.shape != parameter.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    sharded: Any = parameter
    here = tensor.detach().to(parameter.device)
    # Every process has the tensor, so none has to be sent.
    return distribute_tensor(here, sharded.device_mesh, sharded.placements, src_data_rank=None)
