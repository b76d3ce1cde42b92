"""Activation checkpointing: layers recompute their activations in the backward pass instead of keeping them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from detectron2.layers import CNNBlockBase
from torch import nn
from torch.utils.checkpoint import checkpoint


def checkpoint_activations(names: Iterable[str], parts: Mapping[str, nn.Module]) -> None:
    """Make the layers of some parts of a network keep only their inputs for the backward pass, in place.

    PyTorch's ``checkpoint_wrapper`` puts a module around each layer, so that the names of parameters and ``isinstance``
    change, and moves batch normalisation's running statistics twice; hence this.

    Losses and gradients stay the same, running statistics of batch normalisation too. A part says which classes of its
    layers can be taken one by one, by an attribute ``checkpoint_layers``; without it, they are the residual blocks of
    Detectron2's backbones.

    Args:
        names: keys of ``parts``.
        parts: the network's parts by name.

    Raises:
        ValueError: an unknown name, or a part that has no layers of these classes.
    """
    for name in names:
        if name not in parts:
            raise ValueError(f"MODEL.CHECKPOINT names {name!r}; choose from {', '.join(parts)}.")
        kinds_of_layers: tuple[type[nn.Module], ...] = getattr(parts[name], "checkpoint_layers", (CNNBlockBase,))
        layers = [module for module in parts[name].modules() if isinstance(module, kinds_of_layers)]
        if not layers:
            kinds = ", ".join(kind.__name__ for kind in kinds_of_layers)
            raise ValueError(
                f"MODEL.CHECKPOINT names {name!r}, but {type(parts[name]).__name__} has no layers of a known kind "
                f"({kinds}); leave it out."
            )
        for layer in layers:
            if not _is_checkpointed(layer):
                layer.forward = partial(_forward, layer, layer.forward)


def _is_checkpointed(layer: nn.Module) -> bool:
    return isinstance(layer.forward, partial) and layer.forward.func is _forward


def _forward(layer: nn.Module, forward: Callable[..., Any], *inputs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs)
    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=partial(_contexts, layer))


def _contexts(layer: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _statistics_left_alone(layer)


@contextmanager
def _statistics_left_alone(layer: nn.Module) -> Iterator[None]:
    """Keep batch normalisation from updating its running statistics a second time, in the recomputation."""
    norms = [m for m in layer.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    tracked = [(norm, norm.momentum, n, n.clone()) for norm in norms if (n := norm.num_batches_tracked) is not None]
    for norm, *_ in tracked:
        norm.momentum = 0.0  # not track_running_stats: both passes must save the same tensors
    try:
        yield
    finally:
        for norm, momentum, batches, before in tracked:
            norm.momentum = momentum
            batches.copy_(before)
