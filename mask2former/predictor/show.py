"""Show an image to the user: in a notebook, in a window, or as a file where neither is."""

from __future__ import annotations

import os
import sys
import tempfile
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageShow


def png_of(pixels: np.ndarray) -> bytes:
    """Encode an image [H, W, 3] uint8, RGB, as png, which notebooks show."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def show_image(pixels: np.ndarray, title: str = "result") -> Path | None:
    """Show an image [H, W, 3] uint8, RGB, or [H, W].

    Returns:
        None if it is seen in a notebook or a window; else the file that was written, whose name is printed.
    """
    image = Image.fromarray(pixels)
    if _in_notebook():
        from IPython.display import display

        display(image)
        return None
    if _has_windows() and ImageShow.show(image, title):
        return None
    file = Path(tempfile.mkdtemp(prefix="mask2former_")) / f"{Path(title).stem}.png"
    image.save(file, "PNG")
    print(f"There is no window to show it in: {file}")
    return file


def _in_notebook() -> bool:
    """Tell whether a Jupyter kernel runs this program; its terminal cannot show images."""
    ipython = sys.modules.get("IPython")  # without it nothing runs in it
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def _has_windows() -> bool:
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
