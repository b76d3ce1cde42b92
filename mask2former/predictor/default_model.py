"""The model that is used if none is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mask2former.download import DownloadError
from mask2former.predictor.predictor import Predictor

DEFAULT_MODEL = "coco/panoptic/swin_tiny"
QUICKSTART = Path("output/quickstart/panoptic")  # where `make demo` writes its model


def open_default(**arguments: Any) -> tuple[Predictor, str | None]:
    """Open the default model, or if it cannot be downloaded, the quickstart's, if that has been trained here.

    Args:
        arguments: arguments of :class:`Predictor` other than the model.

    Returns:
        The predictor, and a note to show if it is not the default model's.

    Raises:
        DownloadError: it cannot be downloaded and the quickstart's is not here; the message says what to do.
    """
    try:
        return Predictor(DEFAULT_MODEL, **arguments), None
    except DownloadError as error:
        if not (QUICKSTART / "model_final.pth").is_file():
            raise DownloadError(
                f"the default model {DEFAULT_MODEL} is not available: {error} Or name weights on this machine, such as "
                "the output folder of a training. `make demo` trains one in minutes, which is then the default."
            ) from error
    note = (
        f"the default model {DEFAULT_MODEL} cannot be downloaded, so the quickstart's ({QUICKSTART}) is used, "
        "which knows only its drawn scenes."
    )
    return Predictor(QUICKSTART, **arguments), note
