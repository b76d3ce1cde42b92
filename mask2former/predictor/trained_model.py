"""Build a model whose weights come from a file, without drawing the random ones that the file replaces."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mask2former.predictor.weights import load_trained

# Other initialisers are not asked about, but the steps that they take are.
_DRAWN_BY = (nn.init.uniform_, nn.init.normal_, nn.init.kaiming_uniform_, Tensor.normal_, Tensor.uniform_)


class Undrawn(TorchFunctionMode):
    """Fill parameters with 0 where a module would draw them at random, inside the ``with`` block.

    Large models draw for seconds. Other constants are as always, and so are random buffers, which files may lack.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        filled = args[0] if args else kwargs.get("tensor")  # of an initialiser
        if func in _DRAWN_BY and isinstance(filled, nn.Parameter):
            filled.detach().zero_()
            return filled
        return func(*args, **kwargs)


@torch.no_grad()
def build_trained(cfg: CfgNode, file: str) -> Any:
    """Build the model of a configuration, in evaluation mode, with the weights of a file.

    What the file lacks is initialised as :func:`build_model` does it.

    Returns:
        What :func:`build_model` returns.

    Raises:
        ValueError: these are not the weights of this model.
    """
    with Undrawn():
        model = build_model(cfg).eval()
    missing = load_trained(model, file)
    if missing:
        on_cpu = cfg.clone()
        on_cpu.defrost()
        on_cpu.MODEL.DEVICE = "cpu"  # a second model on the GPU could be one too many
        whole, ours = build_model(on_cpu).state_dict(), model.state_dict()
        for name in missing:
            ours[name].copy_(whole[name])
    return model
