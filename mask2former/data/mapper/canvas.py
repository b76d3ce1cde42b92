"""Random changes of images that all fill one canvas, as kMaX-DeepLab's do."""

from __future__ import annotations

from detectron2.data import transforms as T

from mask2former.data.mapper.augmentation import ColorJitter, Pad, ResizeScale, SizeOnlyAugmentation, flips


def canvas_jitter(
    canvas: tuple[int, int], min_scale: float, max_scale: float, color_format: str, flip: str
) -> list[T.Augmentation]:
    """Return kMaX-DeepLab's augmentations: fit into the canvas times a random scale, colours, crop, flip, pad.

    Args:
        canvas: (H, W) in pixels, the size of every image; padding is at the right and the bottom.
        min_scale: least scale relative to the canvas.
        max_scale: greatest scale.
        color_format: "RGB" or "BGR".
        flip: "horizontal", "vertical", "both" or "none".
    """
    return [
        SizeOnlyAugmentation(ResizeScale(min_scale, max_scale, *canvas)),
        SizeOnlyAugmentation(ColorJitter(color_format)),
        SizeOnlyAugmentation(T.FixedSizeCrop(canvas, pad=False)),
        *flips(flip),
        SizeOnlyAugmentation(Pad(size=canvas)),
    ]
