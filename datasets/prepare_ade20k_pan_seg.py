"""Make ADE20K's instance and panoptic files of the scene parsing labels and the instance labels.

Reads   ROOT/ADEChallengeData2016/images/{training,validation}/*.jpg
        ROOT/ADEChallengeData2016/annotations/{training,validation}/*.png: 0 is "other", 1 to 150 the classes
        ROOT/ADEChallengeData2016/annotations_instance/{training,validation}/*.png: red is the class, 1 to 100 in the
        order of the things among the 150; green tells instances of a class apart; 0 is none
Writes  ROOT/ADEChallengeData2016/ade20k_instance_{train,val}.json
        ROOT/ADEChallengeData2016/ade20k_panoptic_{train,val}.json and ade20k_panoptic_{train,val}/*.png

Stuff comes from the first labels and things from the second; pixels of a thing that is no instance belong to none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from preparation import command, files
from pycocotools import mask as coco_mask
from tqdm import tqdm

from mask2former.data.datasets.categories import load_categories
from mask2former.data.images.read import file_size

SPLITS = {"train": "training", "val": "validation"}
CATEGORIES = load_categories("ade20k_panoptic")
STUFF_IDS = [category["id"] for category in CATEGORIES if not category["isthing"]]
THINGS = load_categories("ade20k_instance")

Region = tuple[int, np.ndarray]  # category id, [H, W] bool


def stuff_regions(labels: np.ndarray) -> list[Region]:
    """One region for each kind of stuff in the scene parsing labels [H, W], 0 to 150."""
    if labels.ndim != 2 or labels.max(initial=0) > len(CATEGORIES):
        raise ValueError(
            f"found labels of shape {labels.shape} up to {labels.max(initial=0)}; they have to be [H, W], at most 150"
        )
    present = set(np.unique(labels).tolist())
    return [(number, labels == number + 1) for number in STUFF_IDS if number + 1 in present]


def thing_regions(labels: np.ndarray) -> list[Region]:
    """One region for each instance of the instance labels [H, W, 3], by class and then by number."""
    if labels.ndim != 3 or labels[..., 0].max(initial=0) > len(THINGS):
        raise ValueError(
            f"found labels of shape {labels.shape}; they have to be [H, W, 3], with red at most {len(THINGS)}"
        )
    pairs = labels[..., 0].astype(np.int32) * 256 + labels[..., 1]
    present = [pair for pair in np.unique(pairs).tolist() if pair >= 256 and pair % 256]
    return [(THINGS[pair // 256 - 1]["id"], pairs == pair) for pair in present]


def convert_image(name: str, folder: Path, split: str) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    """Write the panoptic png of one image; returns image, panoptic annotation, instance annotations."""
    part = SPLITS[split]
    scene, objects = (folder / kind / part / f"{name}.png" for kind in ("annotations", "annotations_instance"))
    regions: list[Region] = []
    sizes = []
    for file, read in ((scene, stuff_regions), (objects, thing_regions)):
        labels = np.asarray(Image.open(file, formats=["PNG"]))
        sizes.append(labels.shape[:2])
        try:
            regions += read(labels)
        except ValueError as error:
            raise SystemExit(f"{file}: {error}. Is this a file of the ADE20K challenge?") from error
    sizes.append(file_size(str(folder / "images" / part / f"{name}.jpg")))
    if len(set(sizes)) > 1:
        raise SystemExit(f"{scene}, {objects} and the image differ in size (height, width): {sizes}.")

    height, width = sizes[0]
    ids = np.zeros((height, width), np.int32)
    for number, (_, mask) in enumerate(regions, start=1):
        ids[mask] = number
    channels = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    Image.fromarray(channels).save(folder / f"ade20k_panoptic_{split}" / f"{name}.png")

    segments, instances = [], []
    stuff = set(STUFF_IDS)
    for number, (category, _) in enumerate(regions, start=1):
        mask = ids == number
        if not mask.any():  # covered by things
            continue
        rle = coco_mask.encode(np.asfortranarray(mask))
        facts = {
            "category_id": category,
            "iscrowd": 0,
            "area": int(mask.sum()),
            "bbox": [int(x) for x in coco_mask.toBbox(rle)],
        }
        segments.append({"id": number, **facts})
        if category not in stuff:
            outline = {"size": rle["size"], "counts": rle["counts"].decode("ascii")}
            instances.append({"image_id": name, **facts, "segmentation": outline})
    image = {"id": name, "file_name": f"{name}.jpg", "height": height, "width": width}
    return image, {"image_id": name, "file_name": f"{name}.png", "segments_info": segments}, instances


def main(arguments: list[str] | None = None) -> None:
    parser = command(__doc__, "folder that holds ADEChallengeData2016/")
    parser.add_argument("--splits", nargs="+", choices=list(SPLITS), default=list(SPLITS), help="[both]")
    options = parser.parse_args(arguments)

    folder = options.root / "ADEChallengeData2016"
    for split in options.splits:
        names = [file.stem for file in files(folder / "annotations_instance" / SPLITS[split], "*.png")]
        (folder / f"ade20k_panoptic_{split}").mkdir(exist_ok=True)
        converted = [convert_image(name, folder, split) for name in tqdm(names, desc=f"ADE20K {split}", disable=None)]
        images = [image for image, _, _ in converted]
        every = [instance for _, _, instances in converted for instance in instances]
        _write(folder / f"ade20k_panoptic_{split}.json", images, CATEGORIES, [entry for _, entry, _ in converted])
        _write(
            folder / f"ade20k_instance_{split}.json",
            images,
            THINGS,
            [{"id": i, **instance} for i, instance in enumerate(every, start=1)],
        )


def _write(path: Path, images: list[Any], categories: list[Any], annotations: list[Any]) -> None:
    path.write_text(json.dumps({"images": images, "categories": categories, "annotations": annotations}))


if __name__ == "__main__":
    main()
