"""Give ``torch.compile`` constants. Importing this imports PyTorch's compiler, which takes four seconds."""

from __future__ import annotations

from collections.abc import Callable

import torch


@torch.compiler.assume_constant_result
def constant(function: Callable[[str], bool], argument: str) -> bool:
    """Return ``function(argument)``, computed by ordinary Python while a graph is traced."""
    return function(argument)
