"""Variants of the model's parts that take less time or memory, mostly on a CPU, with the same results.

The model works without this package. Each variant is a subclass of the plain part with its own ``forward``, which falls
back on the plain one where it gains nothing; :func:`optimise_for_cpu` applies them to a model.
"""

from __future__ import annotations

from detectron2.layers import Conv2d
from detectron2.modeling.backbone.resnet import ResNet
from torch import nn

from mask2former.modeling.backbone.swin_stages import SwinBlock
from mask2former.modeling.cpu.convolution import LaidOutConv2d
from mask2former.modeling.cpu.deformable_attention import ChunkedDeformableSelfAttention
from mask2former.modeling.cpu.feed_forward import ChunkedFeedForward
from mask2former.modeling.cpu.fused_resnet import FusedResNet
from mask2former.modeling.cpu.swin import ChunkedSwinBlock
from mask2former.modeling.layers.deformable_attention import DeformableSelfAttention
from mask2former.modeling.layers.residual import FeedForward

_FORMS: dict[type[nn.Module], type[nn.Module]] = {
    Conv2d: LaidOutConv2d,
    ResNet: FusedResNet,
    SwinBlock: ChunkedSwinBlock,
    DeformableSelfAttention: ChunkedDeformableSelfAttention,
    FeedForward: ChunkedFeedForward,
}


def optimise_for_cpu(model: nn.Module) -> None:
    """Replace the parts of ``model`` by their faster or leaner variants, in place, except users' own subclasses.

    Parameters, ``state_dict`` names and results (but for rounding) stay the same, and so does ``isinstance``. Call it
    before :func:`~mask2former.modeling.activation_checkpoint.checkpoint_activations`, which wraps the current
    ``forward`` of each layer.
    """
    _exchange(model, _FORMS)


def make_plain(model: nn.Module) -> None:
    """Undo :func:`optimise_for_cpu`, in place."""
    _exchange(model, {form: plain for plain, form in _FORMS.items()})


def _exchange(model: nn.Module, classes: dict[type[nn.Module], type[nn.Module]]) -> None:
    for module in model.modules():
        # Changing the class of the object keeps parameters, hooks and names, and the result can be copied and pickled.
        module.__class__ = classes.get(type(module), type(module))


__all__ = ["make_plain", "optimise_for_cpu"]
