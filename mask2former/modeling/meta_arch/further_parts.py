"""Parts beside a network that a configuration may switch on, and that not every meta-architecture has."""

from __future__ import annotations

from detectron2.config import CfgNode

FURTHER_PARTS = {
    "MASK_ENCODER": "masks that come with an image are then regions of interest",
    "DISTILLATION": "it learns from ground truth alone",
}
"""Names below ``MODEL`` of nodes with a key ``ENABLED``, and what it means to be without such a part."""


def refuse_parts_from_config(cfg: CfgNode, who: str) -> None:
    """Check that no part is switched on, for an architecture that would leave it out in silence.

    Raises:
        ValueError: one is.
    """
    for name, without in FURTHER_PARTS.items():
        if cfg.MODEL[name].ENABLED:
            raise ValueError(
                f"MODEL.{name}.ENABLED is True, but MODEL.META_ARCHITECTURE {who} has no such part. Set it to False "
                f"({without}), or take MaskFormer."
            )
