"""Write web pages, each a single file that loads nothing else."""

from __future__ import annotations

import base64
import functools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from markupsafe import Markup

from mask2former.files import write_text

TEMPLATES = Path(__file__).parent / "templates"


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(data=as_data, number=_number, percent=_percent)
    return environment


def write_page(file: Path, template: str, context: Mapping[str, Any]) -> Path:
    """Write a page at once: a reader sees the whole old page or the whole new one.

    Args:
        file: path in an existing folder.
        template: name of a file in ``templates``.
        context: values of the template's names; texts are escaped.
    """
    text = _templates().get_template(template).render(context)
    # Names of files may hold bytes that are no UTF-8, which Python keeps as halves of characters.
    return write_text(file, text.encode(errors="replace").decode())


def as_data(value: Any) -> Markup:
    """Return JSON that is safe in a script element: nothing in it can end the element. NaN and infinity become null."""
    text = json.dumps(_plain(value), separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def jpeg_uri(image: np.ndarray, quality: int = 82) -> str:
    """Encode an image [H, W, 3] uint8, RGB, as a data URI."""
    done, encoded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"an image of the shape {image.shape} cannot be written as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(x) for key, x in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(x) for x in value]
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, (float, np.floating)):
        # Six digits are more than a screen shows.
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def _number(value: float) -> str:
    """Format a number with thin spaces between thousands."""
    return f"{value:,}".replace(",", "\u202f")


def _percent(share: float, digits: int = 1) -> str:
    """Format a share in [0, 1] as percent; a dash if it is undefined."""
    return "\u2013" if share is None or not math.isfinite(share) else f"{100 * share:.{digits}f}"
