"""Make label pngs of the 171 classes from COCO-Stuff-10k's annotations, version 1.1.

Reads   ROOT/coco/coco_stuff_10k/imageLists/{train,test}.txt: a name a line
        ROOT/coco/coco_stuff_10k/images/NAME.jpg
        ROOT/coco/coco_stuff_10k/annotations/NAME.mat: the variable S is [H, W]; 0 is "unlabeled", 1 to 182 COCO's ids
Writes  ROOT/coco/coco_stuff_10k/images_detectron2/{train,test}/NAME.jpg, copies
        ROOT/coco/coco_stuff_10k/annotations_detectron2/{train,test}/NAME.png: 0 to 170, 255 ignored

Version 1.0 numbered its classes from 1 to 171 and is not meant here. No file of the data set was at hand when this was
written: its format is as its authors' repository describes it.
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

LARGEST_ID = 182
CLASSES = class_table((c["id"] for c in load_categories("coco_stuff_10k")), LARGEST_ID + 1, IGNORE_LABEL)


def read_annotation(file: Path) -> np.ndarray:
    """[H, W] integer ids of a .mat file. Raises ValueError, which names it."""
    try:
        labels = scipy.io.loadmat(file, variable_names=["S"]).get("S")
    except (ValueError, NotImplementedError, TypeError) as error:  # what SciPy says to broken and to newer files
        raise ValueError(f"{file}: not a MATLAB file that SciPy can read ({error}). Is it complete?") from error
    if labels is None or labels.ndim != 2 or labels.dtype.kind not in "ui" or labels.max(initial=0) > LARGEST_ID:
        found = "no S" if labels is None else f"{labels.dtype} {labels.shape} up to {labels.max(initial=0)}"
        raise ValueError(f"{file}: found {found}; the variable S has to hold ids [H, W] up to {LARGEST_ID}.")
    return labels


def convert(name: str, folder: Path, split: str) -> None:
    """Copy one image and write its label png."""
    file = folder / "images" / f"{name}.jpg"
    labels = read_annotation(folder / "annotations" / f"{name}.mat")
    size = file_size(str(file))
    if labels.shape != size:
        raise ValueError(f"{file}: its size (height, width) is {size}, but that of its annotation is {labels.shape}.")
    shutil.copyfile(file, folder / "images_detectron2" / split / file.name)
    Image.fromarray(CLASSES[labels]).save(folder / "annotations_detectron2" / split / f"{name}.png")


def main(arguments: list[str] | None = None) -> None:
    parser = command(__doc__, "folder that holds coco/")
    add_workers(parser)
    options = parser.parse_args(arguments)

    folder = options.root / "coco" / "coco_stuff_10k"
    for split in ("train", "test"):
        listing = folder / "imageLists" / f"{split}.txt"
        if not listing.is_file():
            raise SystemExit(f"{listing} is missing; see datasets/README.md.")
        for kind in ("images_detectron2", "annotations_detectron2"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        one = functools.partial(convert, folder=folder, split=split)
        for_each(one, listing.read_text().split(), options.workers, f"COCO-Stuff-10k {split}")


if __name__ == "__main__":
    main()
