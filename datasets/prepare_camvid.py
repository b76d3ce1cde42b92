"""Bring CamVid, as the SegNet tutorial gives it, into this project's layout.

Reads   SOURCE/{train,val}/*.png images and SOURCE/{train,val}annot/*.png labels: 0 to 10, 11 for "unlabelled"
Writes  ROOT/camvid/images/{train,val}/*.png and ROOT/camvid/annotations/{train,val}/*.png: 0 to 10, 255 ignored
"""

from __future__ import annotations

import shutil
from pathlib import Path

from PIL import Image
from preparation import IGNORE_LABEL, command, files
from tqdm import tqdm

from mask2former.data.images.read import read_labels

NUM_CLASSES = 11


def main(arguments: list[str] | None = None) -> None:
    parser = command(__doc__, "folder in which camvid/ is created")
    parser.add_argument("--source", required=True, type=Path, help="the tutorial's CamVid folder")
    options = parser.parse_args(arguments)

    for split in ("train", "val"):
        image_folder, label_folder = (options.root / "camvid" / kind / split for kind in ("images", "annotations"))
        image_folder.mkdir(parents=True, exist_ok=True)
        label_folder.mkdir(parents=True, exist_ok=True)
        images = files(options.source / split, "*.png")
        for image in tqdm(images, desc=f"camvid {split}"):
            label_file = options.source / f"{split}annot" / image.name
            labels = read_labels(str(label_file))
            if labels.ndim != 2 or labels.max() > NUM_CLASSES:
                raise SystemExit(f"{label_file}: found labels up to {labels.max()}; CamVid has 0 to {NUM_CLASSES}.")
            labels[labels == NUM_CLASSES] = IGNORE_LABEL
            shutil.copyfile(image, image_folder / image.name)
            Image.fromarray(labels).save(label_folder / image.name)


if __name__ == "__main__":
    main()
