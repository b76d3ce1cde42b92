"""Turn the Data Science Bowl 2018 nuclei (stage1_train) into COCO instance and panoptic files.

Reads   SOURCE/<image>/images/<image>.png and SOURCE/<image>/masks/*.png, one mask for each nucleus
Writes  ROOT/nuclei/images/{train,val}/<image>.png
        ROOT/nuclei/annotations/instances_{train,val}.json, instances_{train,val}_fluo256.json (256x256 fluorescence)
        ROOT/nuclei/annotations/panoptic_{train,val}.json and ROOT/nuclei/panoptic/panoptic_{train,val}/<image>.png

One image in eight is for validation, chosen by a hash of its name, so the split is the same everywhere.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from preparation import command
from pycocotools import mask as coco_mask
from tqdm import tqdm

from mask2former.data.images.read import read_image

NUCLEUS = {"id": 1, "name": "nucleus", "isthing": 1, "supercategory": "cell", "color": [220, 20, 60]}
BACKGROUND = {"id": 2, "name": "background", "isthing": 0, "supercategory": "other", "color": [70, 70, 70]}
VALIDATION_SHARE = 8  # one in so many


def split_of(name: str) -> str:
    """The split of an image, from its name alone."""
    return "val" if int(hashlib.sha256(name.encode()).hexdigest(), 16) % VALIDATION_SHARE == 0 else "train"


def is_fluorescence_256(rgb: np.ndarray) -> bool:
    """A grey, mostly dark image of 256x256 pixels; ``rgb`` is [H, W, 3] uint8."""
    grey = rgb.astype(np.int16)
    return rgb.shape[:2] == (256, 256) and np.ptp(grey, axis=2).max() == 0 and grey.mean() < 128


def convert_image(folder: Path, image_id: int, root: Path) -> tuple[dict[str, Any], dict[str, Any], list[Any], bool]:
    """Write image and panoptic png; returns image, panoptic annotation, instance annotations, in fluo256."""
    name, split = folder.name, split_of(folder.name)
    rgb = read_image(str(folder / "images" / f"{name}.png"), "RGB")
    Image.fromarray(rgb).save(root / "images" / split / f"{name}.png")

    ids = np.ones(rgb.shape[:2], np.int32)  # 1: background
    instances: list[dict[str, Any]] = []
    for mask_file in sorted((folder / "masks").glob("*.png")):
        mask = read_image(str(mask_file), "L")[..., 0] > 0
        if mask.shape != ids.shape:
            raise SystemExit(f"{mask_file}: its size (height, width) is {mask.shape}, but the image's is {ids.shape}.")
        mask &= ids == 1  # a few masks overlap by some pixels
        if not mask.any():
            continue
        ids[mask] = len(instances) + 2
        rle = coco_mask.encode(np.asfortranarray(mask))
        instances.append(
            {
                "image_id": image_id,
                "category_id": NUCLEUS["id"],
                "iscrowd": 0,
                "area": int(mask.sum()),
                "bbox": [float(x) for x in coco_mask.toBbox(rle)],
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
            }
        )
    Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)).save(
        root / "panoptic" / f"panoptic_{split}" / f"{name}.png"
    )
    segments = [{"id": i + 2, **_segment(instance)} for i, instance in enumerate(instances)]
    background = int((ids == 1).sum())
    if background:
        box = [0, 0, rgb.shape[1], rgb.shape[0]]
        segments.insert(0, {"id": 1, "category_id": BACKGROUND["id"], "iscrowd": 0, "area": background, "bbox": box})
    image = {"id": image_id, "file_name": f"{name}.png", "height": rgb.shape[0], "width": rgb.shape[1]}
    panoptic = {"image_id": image_id, "file_name": f"{name}.png", "segments_info": segments}
    return image, panoptic, instances, is_fluorescence_256(rgb)


def _segment(instance: dict[str, Any]) -> dict[str, Any]:
    return {key: instance[key] for key in ("category_id", "iscrowd", "area", "bbox")}


def main(arguments: list[str] | None = None) -> None:
    parser = command(__doc__, "folder in which nuclei/ is created")
    parser.add_argument("--source", required=True, type=Path, help="the unpacked stage1_train folder")
    options = parser.parse_args(arguments)

    root = options.root / "nuclei"
    folders = sorted(folder for folder in options.source.iterdir() if (folder / "images").is_dir())
    if not folders:
        raise SystemExit(f"{options.source} holds no <image>/images folders; see datasets/README.md.")
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        (root / "images" / split).mkdir(parents=True, exist_ok=True)
        (root / "panoptic" / f"panoptic_{split}").mkdir(parents=True, exist_ok=True)
        members = [folder for folder in folders if split_of(folder.name) == split]
        converted = [
            convert_image(folder, image_id, root)
            for image_id, folder in enumerate(tqdm(members, desc=f"nuclei {split}"), start=1)
        ]
        for subset in ("", "_fluo256"):
            chosen = [entry for entry in converted if entry[3] or not subset]
            annotations = [instance for entry in chosen for instance in entry[2]]
            content = {
                "images": [entry[0] for entry in chosen],
                "categories": [NUCLEUS],
                "annotations": [{"id": i, **instance} for i, instance in enumerate(annotations, start=1)],
            }
            (root / "annotations" / f"instances_{split}{subset}.json").write_text(json.dumps(content))
        panoptic = {
            "images": [entry[0] for entry in converted],
            "categories": [NUCLEUS, BACKGROUND],
            "annotations": [entry[1] for entry in converted],
        }
        (root / "annotations" / f"panoptic_{split}.json").write_text(json.dumps(panoptic))


if __name__ == "__main__":
    main()
