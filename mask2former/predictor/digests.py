"""Tell one state of a model from another, which its name or folder does not."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from mask2former.predictor.resolve_model import model_config
from mask2former.predictor.weights import trained_weights


def model_digests(model: str, opts: Sequence[str]) -> dict[str, str]:
    """Return SHA-256 of configuration and weights: a folder may have been trained again.

    Args:
        model, opts: as for :class:`mask2former.Predictor`, which raises the same errors.
    """
    cfg = model_config(model, None, opts)
    weights = hashlib.sha256()
    with open(trained_weights(cfg.MODEL.WEIGHTS), "rb") as file:
        while part := file.read(1 << 20):
            weights.update(part)
    configuration = hashlib.sha256(cfg.dump().encode()).hexdigest()
    return {"sha256_of_configuration": configuration, "sha256_of_weights": weights.hexdigest()}
