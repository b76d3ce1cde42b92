"""Make label pngs of PASCAL-Context's 59 classes, and of 60 with the background, from its label maps of 459 classes.

Reads   ROOT/VOCdevkit/VOC2010/ImageSets/Main/{train,val}.txt: a name a line
        ROOT/VOCdevkit/VOC2010/JPEGImages/NAME.jpg
        ROOT/VOCdevkit/VOC2010/trainval/NAME.mat: the variable LabelMap is [H, W], 1 to 459; 0 is taken as no class
Writes  ROOT/VOCdevkit/VOC2010/images_detectron2/{train,val}/NAME.jpg, copies
        ROOT/VOCdevkit/VOC2010/annotations_detectron2/pascal_context_59/{train,val}/NAME.png: 0 to 58, 255 ignored
        ROOT/VOCdevkit/VOC2010/annotations_detectron2/pascal_context_60/{train,val}/NAME.png: 0 to 59; 0 is background

No file of the data set was at hand when this was written: its format is as its authors describe it.
"""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image
from preparation import IGNORE_LABEL, add_workers, class_table, command, for_each

from mask2former.data.datasets.categories import load_categories
from mask2former.data.images.read import file_size

LARGEST_ID = 459
_BACKGROUND, *_IDS = (category["id"] for category in load_categories("pascal_context"))
CLASSES_59 = class_table(_IDS, LARGEST_ID + 1, IGNORE_LABEL)
CLASSES_60 = np.where(CLASSES_59 == IGNORE_LABEL, 0, CLASSES_59 + 1).astype(np.uint8)
TABLES = {"pascal_context_59": CLASSES_59, "pascal_context_60": CLASSES_60}


def read_labels(file: Path) -> np.ndarray:
    """[H, W] integer ids of a .mat file. Raises ValueError, which names it."""
    try:
        labels = scipy.io.loadmat(file, variable_names=["LabelMap"]).get("LabelMap")
    except (ValueError, NotImplementedError, TypeError) as error:  # what SciPy says to broken and to newer files
        raise ValueError(f"{file}: not a MATLAB file that SciPy can read ({error}). Is it complete?") from error
    if labels is None or labels.ndim != 2 or labels.dtype.kind not in "ui" or labels.max(initial=0) > LARGEST_ID:
        found = "no LabelMap" if labels is None else f"{labels.dtype} {labels.shape} up to {labels.max(initial=0)}"
        raise ValueError(f"{file}: found {found}; the variable LabelMap has to hold ids [H, W] up to {LARGEST_ID}.")
    return labels


def convert(name: str, folder: Path, split: str) -> None:
    """Copy one image and write its label pngs."""
    file = folder / "JPEGImages" / f"{name}.jpg"
    labels = read_labels(folder / "trainval" / f"{name}.mat")
    size = file_size(str(file))
    if labels.shape != size:
        raise ValueError(f"{file}: its size (height, width) is {size}, but that of its label map is {labels.shape}.")
    shutil.copyfile(file, folder / "images_detectron2" / split / file.name)
    for kind, table in TABLES.items():
        Image.fromarray(table[labels]).save(folder / "annotations_detectron2" / kind / split / f"{name}.png")


def main(arguments: list[str] | None = None) -> None:
    parser = command(__doc__, "folder that holds VOCdevkit/")
    add_workers(parser)
    options = parser.parse_args(arguments)

    folder = options.root / "VOCdevkit" / "VOC2010"
    for split in ("train", "val"):
        listing = folder / "ImageSets" / "Main" / f"{split}.txt"
        if not listing.is_file():
            raise SystemExit(f"{listing} is missing; see datasets/README.md.")
        for kind in ("images_detectron2", *(f"annotations_detectron2/{kind}" for kind in TABLES)):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        one = functools.partial(convert, folder=folder, split=split)
        for_each(one, listing.read_text().split(), options.workers, f"PASCAL-Context {split}")


if __name__ == "__main__":
    main()
