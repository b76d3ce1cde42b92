"""Settings of a model that a command was given as ``--model``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mask2former.predictor.resolve_model import CONFIG, weights_of
from mask2former.zoo import find_model


def settings_of(model: str, opts: Sequence[str]) -> tuple[str, list[str]]:
    """Return the configuration file of a model, and ``opts`` with what they leave open.

    Left open may be ``MODEL.WEIGHTS``: the model's. And ``OUTPUT_DIR``, if the model is a folder: the folder, wherever
    it is now.

    Args:
        model: output folder of a training, or name of a published model.
        opts: ``KEY, value, ...``.

    Raises:
        ValueError: there is no such model, or its weights are damaged.
        FileNotFoundError: the folder has no weights, and ``opts`` name none.
    """
    folder = Path(model).expanduser().absolute()  # a name such as "2024" would be read as a number
    wants_weights = "MODEL.WEIGHTS" not in opts[::2]
    if folder.is_dir():
        settings = [*opts, "MODEL.WEIGHTS", weights_of(folder)] if wants_weights else [*opts]
        return str(folder / CONFIG), settings if "OUTPUT_DIR" in opts[::2] else [*settings, "OUTPUT_DIR", str(folder)]
    if (published := find_model(model)) is not None:
        return str(published.config_file()), [*opts, "MODEL.WEIGHTS", published.name] if wants_weights else [*opts]
    raise ValueError(f"{model}: neither the output folder of a training nor a name of `mask2former zoo`.")
