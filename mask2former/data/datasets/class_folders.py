"""Images in one folder for each class, as ImageNet's: data sets to pre-train backbones on."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata

from mask2former.data.datasets.readers import Record
from mask2former.data.datasets.spec import DatasetSpec

EVALUATOR_TYPE = "image_classes"


def class_names(folder: str) -> list[str]:
    """Return the names of the folders in a folder, in order: the classes 0, 1, ...

    Raises:
        FileNotFoundError: there is no such folder, or none in it.
    """
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise FileNotFoundError(f"{folder}: found no folders, but one for each class is expected, with its images.")
    return names


def read_class_folders(image_root: str, class_root: str | None = None) -> list[Record]:
    """List the images of a data set.

    Args:
        image_root: folder with a folder of images for each class.
        class_root: a folder whose folders are the classes, such as the training set's, so that a class has the same
            number in all sets; None, or a folder that is not there: ``image_root``.

    Returns:
        A dict for each image: ``file_name``, ``image_id`` (class folder and file) and ``class_id``.

    Raises:
        FileNotFoundError: there are no folders, or one without images.
        ValueError: a folder that is none of the classes.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset  # 2 s, and needed here alone

    found = class_names(image_root)
    names = class_names(class_root) if class_root and os.path.isdir(class_root) else found
    if unknown := [name for name in found if name not in set(names)]:
        raise ValueError(
            f"{image_root}: its folder {unknown[0]!r} is none of the {len(names)} classes, which are the folders of "
            f"{class_root}."
        )
    numbers = {name: number for number, name in enumerate(names) if name in set(found)}
    images = make_dataset(image_root, numbers, extensions=IMG_EXTENSIONS)
    return [
        {"file_name": path, "image_id": os.path.relpath(path, image_root), "class_id": number}
        for path, number in images
        if not os.path.basename(path).startswith(".")  # ._0.png of macOS's archives is no image
    ]


def load_class_folders(meta: Metadata) -> list[Record]:
    return read_class_folders(meta.image_root, meta.get("class_root"))


def register_class_folders(name: str, image_root: str, class_root: str | None = None) -> None:
    """Register a data set of :func:`read_class_folders` in Detectron2's catalogs under ``name``."""
    DatasetCatalog.register(name, functools.partial(read_class_folders, image_root, class_root))
    MetadataCatalog.get(name).set(
        image_root=image_root, class_root=class_root or image_root, evaluator_type=EVALUATOR_TYPE
    )


def imagenet_rows() -> Iterator[DatasetSpec]:
    """List ImageNet-1k, whose archives unpack to these folders; the validation images are sorted into theirs."""
    for split in ("train", "val"):
        paths = {"image_root": f"imagenet/{split}", "class_root": "imagenet/train"}
        yield DatasetSpec(f"imagenet_1k_{split}", load_class_folders, paths, lambda: {"evaluator_type": EVALUATOR_TYPE})
