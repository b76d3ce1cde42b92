"""Make semantic pngs from COCO's panoptic annotations, for the evaluation of mIoU.

Reads   ROOT/coco/annotations/panoptic_{train,val}2017.json and ROOT/coco/panoptic_{train,val}2017/*.png
Writes  ROOT/coco/panoptic_semseg_{train,val}2017/*.png: the contiguous class (0 to 132) of each pixel, 255 for none.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np
from PIL import Image
from preparation import IGNORE_LABEL, add_workers, command, for_each

from mask2former.data.datasets.categories import load_categories, panoptic_metadata
from mask2former.data.datasets.readers import Record, read_coco_panoptic
from mask2former.data.images.read import read_panoptic_ids


def semantic_labels(ids: np.ndarray, segments: list[dict[str, Any]]) -> np.ndarray:
    """[H, W] uint8 class of each pixel, 255 where no segment is.

    Args:
        ids: [H, W] int32 segment ids.
        segments: with ``id`` and contiguous ``category_id``. Crowds count: their class is known.
    """
    labels = np.full(ids.shape, IGNORE_LABEL, np.uint8)
    for segment in segments:
        labels[ids == segment["id"]] = segment["category_id"]
    return labels


def convert(record: Record, target_root: str) -> None:
    """Write the semantic png of one image."""
    labels = semantic_labels(read_panoptic_ids(record["pan_seg_file_name"]), record["segments_info"])
    Image.fromarray(labels).save(os.path.join(target_root, os.path.basename(record["pan_seg_file_name"])))


def main(arguments: list[str] | None = None) -> None:
    parser = command(__doc__, "folder that holds coco/")
    parser.add_argument("--splits", nargs="+", default=["train", "val"], choices=["train", "val"])
    add_workers(parser)
    options = parser.parse_args(arguments)

    meta = panoptic_metadata(load_categories("coco"))
    for split in options.splits:
        coco = os.path.join(options.root, "coco")
        records = read_coco_panoptic(
            os.path.join(coco, "annotations", f"panoptic_{split}2017.json"),
            os.path.join(coco, f"panoptic_{split}2017"),
            os.path.join(coco, f"{split}2017"),
            meta["thing_dataset_id_to_contiguous_id"],
            meta["stuff_dataset_id_to_contiguous_id"],
        )
        target_root = os.path.join(coco, f"panoptic_semseg_{split}2017")
        os.makedirs(target_root, exist_ok=True)
        annotated = [record for record in records if "pan_seg_file_name" in record]
        for_each(functools.partial(convert, target_root=target_root), annotated, options.workers, target_root)


if __name__ == "__main__":
    main()
