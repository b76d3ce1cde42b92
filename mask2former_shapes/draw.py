"""Draw the quickstart data set: drawn scenes with panoptic, instance and semantic ground truth.

Writes ROOT/quickstart as datasets/README.md shows it. Nothing is done where the same set lies already. An image
depends on the seed, its number and the size alone, so any number of processes draws the same.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import cv2
from tqdm import tqdm

from mask2former_shapes.annotations import CATALOG, Record, load_categories, save_json, save_scene
from mask2former_shapes.scene import draw_scene

SPLITS = ("train", "val")
KINDS = ("images", "panoptic", "semantic")  # folders of one png for each image
STAMP = "drawn.json"  # says which set the folder holds; written last


def main(arguments: list[str] | None = None) -> None:
    """Run the command; ``arguments`` are those after its name."""
    options = _parser().parse_args(arguments)
    folder = Path(options.root) / "quickstart"
    counts = {"train": options.train, "val": options.val}
    height, width = options.size
    parameters = {"seed": options.seed, "height": height, "width": width, **counts, "code": _code_digest()}
    if not options.force and _stamp(folder) == parameters and _is_whole(folder, counts):
        print(f"quickstart: {folder} already holds this set ({options.train} + {options.val} images).")
        return

    started = time.perf_counter()
    (folder / STAMP).unlink(missing_ok=True)
    for split, count in counts.items():
        _draw_split(folder, split, count, (height, width), options.seed, options.workers)
    (folder / STAMP).write_text(json.dumps(parameters), encoding="utf-8")
    print(
        f"quickstart: {options.train} training and {options.val} validation images of {height}x{width} pixels "
        f"in {folder}, drawn in {time.perf_counter() - started:.0f} s."
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = os.environ.get("DETECTRON2_DATASETS", "datasets")
    parser.add_argument("--root", default=root, help="folder in which quickstart/ is created [%(default)s]")
    parser.add_argument("--train", type=_count, default=1200, help="number of training images [%(default)s]")
    parser.add_argument("--val", type=_count, default=100, help="number of validation images [%(default)s]")
    parser.add_argument(
        "--size", type=_side, nargs=2, default=(128, 128), metavar=("H", "W"), help="image size in pixels [128 128]"
    )
    parser.add_argument("--seed", type=_count, default=0, help="random seed of the images [%(default)s]")
    parser.add_argument("--workers", type=_positive, default=os.cpu_count(), help="number of processes [%(default)s]")
    parser.add_argument("--force", action="store_true", help="draw the set again even if it exists")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is below 0")
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def _side(text: str) -> int:
    number = int(text)
    if not 48 <= number <= 2048:
        raise argparse.ArgumentTypeError(f"{number} is not within 48 and 2048 pixels")
    return number


def _stamp(folder: Path) -> Record | None:
    try:
        return json.loads((folder / STAMP).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def _is_whole(folder: Path, counts: dict[str, int]) -> bool:
    """Tell whether no image has gone since the set was drawn, as in a copy that was cut short."""
    return all(
        sum(1 for _ in (folder / kind / split).glob("[0-9]*.png")) == count
        for kind in KINDS
        for split, count in counts.items()
    )


def _code_digest() -> str:
    """Return a digest that changes with the code that draws, so that a set of older code is drawn anew."""
    total = hashlib.sha256()
    for file in (CATALOG, *sorted(Path(__file__).parent.rglob("*.py"))):
        total.update(file.read_bytes())
    return total.hexdigest()


def _draw_split(folder: Path, split: str, count: int, size: tuple[int, int], seed: int, workers: int) -> None:
    for kind in KINDS:
        place = folder / kind / split
        place.mkdir(parents=True, exist_ok=True)
        for old in place.glob("[0-9]*.png"):  # of an earlier, longer set
            old.unlink()
    (folder / "annotations").mkdir(exist_ok=True)

    draw = functools.partial(_draw_image, folder, split, size, seed)
    # The processes share the cores. OpenCV's own threads have to be gone before a fork: a child would wait for them.
    cv2.setNumThreads(1)
    with ProcessPoolExecutor(workers) if workers > 1 else nullcontext() as pool:
        drawn = map(draw, range(1, count + 1)) if pool is None else pool.map(draw, range(1, count + 1), chunksize=8)
        records = list(tqdm(drawn, f"drawing {split}", count, unit="image", disable=None))

    categories = load_categories()
    panoptic = [annotation for annotation, _ in records]
    images = [
        {"id": annotation["image_id"], "file_name": annotation["file_name"], "height": size[0], "width": size[1]}
        for annotation in panoptic
    ]
    instances = [instance for _, found in records for instance in found]
    numbered = [{"id": number, **instance} for number, instance in enumerate(instances, start=1)]
    about = f"Drawn scenes, {split}, seed {seed}"
    things = [category for category in categories if category["isthing"]]
    save_json(folder / "annotations" / f"panoptic_{split}.json", images, panoptic, categories, about)
    save_json(folder / "annotations" / f"instances_{split}.json", images, numbered, things, about)


def _draw_image(
    folder: Path, split: str, size: tuple[int, int], seed: int, image_id: int
) -> tuple[Record, list[Record]]:
    scene = draw_scene((seed, SPLITS.index(split), image_id), *size)
    return save_scene(scene, image_id, folder, split, load_categories())


if __name__ == "__main__":
    main()
