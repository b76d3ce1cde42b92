"""Make label files of 847 classes from the whole ADE20K (ADE20K_2021_17_01).

Reads   ROOT/ADE20K_2021_17_01/images/ADE/{training,validation}/**/NAME.jpg
        ROOT/ADE20K_2021_17_01/images/ADE/{training,validation}/**/NAME_seg.png: red / 10 (rounded down) * 256 + green
        is an object's number in the data set's index, from 1; 0 is none
Writes  ROOT/ADE20K_2021_17_01/images_detectron2/{training,validation}/NAME.jpg
        ROOT/ADE20K_2021_17_01/annotations_detectron2/{training,validation}/NAME.tif: 16 bits, 0 to 846, 65535 ignored

Images whose short side exceeds 512 pixels are reduced to that, as the published system does. The numbers of the 847
objects stand in mask2former/data/datasets/catalog/ade20k_full.json, so the index (a file of Python's pickle format,
which could run code) is not read: the folders tell the images of each part. No file of the data set was at hand when
this was written: the coding of the colours is that of its authors' toolkit.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from PIL import Image
from preparation import add_workers, class_table, command, files, for_each

from mask2former.data.datasets.categories import load_categories
from mask2former.data.datasets.published import ADE20K_FULL_IGNORE_LABEL

SHORT_SIDE = 512  # pixels at most
LARGEST_NUMBER = 255 // 10 * 256 + 255  # that the colours can say
CLASSES = class_table((c["id"] for c in load_categories("ade20k_full")), LARGEST_NUMBER + 1, ADE20K_FULL_IGNORE_LABEL)
JPEG_QUALITY = 95


def object_numbers(colours: np.ndarray) -> np.ndarray:
    """[H, W, 3] uint8 of a segmentation png -> [H, W] int64, 0 for none."""
    return colours[..., 0].astype(np.int64) // 10 * 256 + colours[..., 1]


def reduced(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) with a short side of 512 pixels at most."""
    scale = min(1.0, SHORT_SIDE / min(size))
    return round(size[0] * scale), round(size[1] * scale)


def convert(source: Path, images: Path, annotations: Path) -> None:
    """Write image and labels of one segmentation png."""
    name = source.name.removesuffix("_seg.png")
    photograph = source.with_name(f"{name}.jpg")
    with Image.open(source, formats=["PNG"]) as colours, Image.open(photograph, formats=["JPEG"]) as image:
        if colours.mode != "RGB" or colours.size != image.size:
            raise ValueError(
                f"{source}: found mode {colours.mode} and size (width, height) {colours.size}; ADE20K's segmentation "
                f"files are RGB and as large as their image, {image.size}."
            )
        labels = Image.fromarray(CLASSES[object_numbers(np.asarray(colours))])
        size = reduced(image.size)
        small = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    small.save(images / f"{name}.jpg", quality=JPEG_QUALITY)
    labels.resize(size, Image.Resampling.NEAREST).save(annotations / f"{name}.tif")


def main(arguments: list[str] | None = None) -> None:
    parser = command(__doc__, "folder that holds ADE20K_2021_17_01/")
    add_workers(parser)
    options = parser.parse_args(arguments)

    ade20k = options.root / "ADE20K_2021_17_01"
    for split in ("training", "validation"):
        sources = files(ade20k / "images" / "ADE" / split, "**/*_seg.png")
        targets = [ade20k / f"{kind}_detectron2" / split for kind in ("images", "annotations")]
        for target in targets:
            target.mkdir(parents=True, exist_ok=True)
        one = functools.partial(convert, images=targets[0], annotations=targets[1])
        for_each(one, sources, options.workers, f"ADE20K {split}")


if __name__ == "__main__":
    main()
