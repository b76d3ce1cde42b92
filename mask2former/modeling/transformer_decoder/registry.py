"""Registry of transformer decoders, under its published name."""

from __future__ import annotations

from typing import Any

from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.utils.registry import Registry

TRANSFORMER_DECODER_REGISTRY = Registry("TRANSFORMER_MODULE")
TRANSFORMER_DECODER_REGISTRY.__doc__ = """
Classes of transformer decoders, called with the configuration and the channels of what they attend to. They give a
``MaskPrediction`` for (what they attend to, mask features, number of frames).
"""


def find_transformer_decoder(name: str) -> Any:
    """Return the class registered as ``name`` here, or else among Detectron2's heads (older code).

    Raises:
        KeyError: there is none.
    """
    if name in TRANSFORMER_DECODER_REGISTRY:
        return TRANSFORMER_DECODER_REGISTRY.get(name)
    if name in SEM_SEG_HEADS_REGISTRY:
        return SEM_SEG_HEADS_REGISTRY.get(name)
    known = ", ".join(sorted(registered for registered, _ in TRANSFORMER_DECODER_REGISTRY))
    raise KeyError(
        f"MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME is {name!r}; choose one of {known}. Add your own by "
        "@TRANSFORMER_DECODER_REGISTRY.register()."
    )
