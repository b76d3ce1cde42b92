"""Build a model whose weights come from a file, without drawing the random ones that the file replaces."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mask2former.predictor.weights import load_trained

# Other initialisers are not asked about, but their steps are; the last four are those of truncated normals.
_INITIALISERS = (nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_)
_STEPS = (Tensor.normal_, Tensor.uniform_, Tensor.erfinv_, Tensor.mul_, Tensor.add_, Tensor.clamp_)


class Undrawn(TorchFunctionMode):
    """Leave parameters as memory has them where a module would draw them at random, inside the ``with`` block.

    Large models draw for seconds. Constants are filled in as always, and so are random buffers, which files may lack.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        filled = args[0] if args else kwargs.get("tensor")  # of an initialiser
        if func in _INITIALISERS + _STEPS and isinstance(filled, nn.Parameter):
            return filled
        return func(*args, **kwargs)


@torch.no_grad()
def build_trained(cfg: CfgNode, file: str) -> nn.Module:
    """Build the model of a configuration, in evaluation mode, with the weights of a file.

    What the file lacks is initialised as :func:`build_model` does it.

    Raises:
        ValueError: these are not the weights of this model.
    """
    with Undrawn():
        model = build_model(cfg).eval()
    missing = load_trained(model, file)
    if missing:
        whole, ours = build_model(cfg).state_dict(), model.state_dict()
        for name in missing:
            ours[name].copy_(whole[name])
    return model
