"""Shift ADE20K's labels so that classes start at 0 and "other" is ignored.

Reads   ROOT/ADEChallengeData2016/annotations/{training,validation}/*.png: 0 is "other", 1 to 150 the classes
Writes  ROOT/ADEChallengeData2016/annotations_detectron2/{training,validation}/*.png: 0 to 149, 255 ignored
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from preparation import command, files
from tqdm import tqdm

from mask2former.data.images.read import read_labels

NUM_CLASSES = 150


def shifted(labels: np.ndarray) -> np.ndarray:
    """[H, W] uint8 labels less one; 0 becomes 255. Raises ValueError for labels over 150."""
    if labels.dtype != np.uint8 or labels.ndim != 2 or labels.max(initial=0) > NUM_CLASSES:
        raise ValueError(
            f"found {labels.dtype} labels of shape {labels.shape} up to {labels.max(initial=0)}; "
            f"ADE20K's are uint8, [H, W] and at most {NUM_CLASSES}"
        )
    return labels - np.uint8(1)  # unsigned: 0 - 1 is 255


def main(arguments: list[str] | None = None) -> None:
    options = command(__doc__, "folder that holds ADEChallengeData2016/").parse_args(arguments)

    ade20k = options.root / "ADEChallengeData2016"
    for split in ("training", "validation"):
        sources = files(ade20k / "annotations" / split, "*.png")
        target = ade20k / "annotations_detectron2" / split
        target.mkdir(parents=True, exist_ok=True)
        for source in tqdm(sources, desc=str(target), disable=None):
            try:
                labels = shifted(read_labels(str(source)))
            except ValueError as error:
                raise SystemExit(f"{source}: {error}. Is this a file of the ADE20K challenge?") from error
            Image.fromarray(labels).save(target / source.name)


if __name__ == "__main__":
    main()
