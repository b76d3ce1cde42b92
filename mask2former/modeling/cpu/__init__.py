"""Forms of the model's parts that take less time or memory, above all on a CPU, with the results of the plain ones.

The model reads, trains and infers without this room. Each form is a subclass of the plain part with a ``forward`` of
its own, which falls back on the plain one where it would gain nothing; :func:`optimise_for_cpu` gives them to a model.
"""

from __future__ import annotations

from detectron2.modeling.backbone.resnet import ResNet
from torch import nn

from mask2former.modeling.backbone.swin_stages import SwinBlock
from mask2former.modeling.cpu.deformable_attention import ChunkedDeformableSelfAttention
from mask2former.modeling.cpu.feed_forward import ChunkedFeedForward
from mask2former.modeling.cpu.fused_resnet import FusedResNet
from mask2former.modeling.cpu.swin import ChunkedSwinBlock
from mask2former.modeling.layers.deformable_attention import DeformableSelfAttention
from mask2former.modeling.layers.residual import FeedForward

_FORMS: dict[type[nn.Module], type[nn.Module]] = {
    ResNet: FusedResNet,
    SwinBlock: ChunkedSwinBlock,
    DeformableSelfAttention: ChunkedDeformableSelfAttention,
    FeedForward: ChunkedFeedForward,
}


def optimise_for_cpu(model: nn.Module) -> None:
    """Give the parts of ``model`` their faster or leaner forms, in place; those of a user's own subclass stay.

    Parameters, names of the state and results stay the same (but for rounding), and ``isinstance`` too. Call it before
    :func:`~mask2former.modeling.activation_checkpoint.checkpoint_activations`, which takes the layers as it finds them.
    """
    _exchange(model, _FORMS)


def make_plain(model: nn.Module) -> None:
    """Undo :func:`optimise_for_cpu`, in place."""
    _exchange(model, {form: plain for plain, form in _FORMS.items()})


def _exchange(model: nn.Module, classes: dict[type[nn.Module], type[nn.Module]]) -> None:
    for module in model.modules():
        # Another class for the same object keeps parameters, hooks and names, and can be copied and pickled.
        module.__class__ = classes.get(type(module), type(module))


__all__ = ["make_plain", "optimise_for_cpu"]
