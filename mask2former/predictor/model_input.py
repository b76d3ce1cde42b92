"""Images as a model reads them, in Detectron2's form."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from mask2former.data.mapper.augmentation import ResizeShortestEdge
from mask2former.predictor.load_image import LoadedImage, is_many, load_image, load_mask


def marked_image(source: Any, mask: Any, tile: int | None) -> LoadedImage:
    """Read an image and the mask that comes with it.

    Raises:
        ValueError: several images; tiles are wanted; or a mask that :func:`load_mask` refuses.
    """
    if is_many(source):
        raise ValueError("A mask belongs to one image; call the predictor for each of several images.")
    if tile is not None:
        raise ValueError("A mask and tiles do not go together: leave out tile, or the mask.")
    image = load_image(source)
    return replace(image, mask=load_mask(mask, image.pixels.shape[:2]))


def model_input(image: LoadedImage, resize: ResizeShortestEdge | None, *, bgr: bool) -> dict[str, Any]:
    """Return ``image`` uint8 [3, H', W'], the ``height`` and ``width`` of its results, and ``mask``, where it has one.

    Args:
        image: RGB.
        resize: None: the image keeps its size.
        bgr: the order of the model's channels.
    """
    height, width = image.pixels.shape[:2]
    pixels = np.ascontiguousarray(image.pixels[:, :, ::-1]) if bgr else image.pixels
    if resize is not None:
        pixels = resize.get_transform(pixels).apply_image(pixels)
    tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    mask = {} if image.mask is None else {"mask": torch.from_numpy(image.mask)}
    return {"image": tensor, "height": height, "width": width, **mask}
