"""The list of data sets, and their registration in Detectron2's catalogs.

No file is read before a data set is loaded. Paths are relative to the root; ``datasets/README.md`` shows the folders.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterator

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.data.datasets import load_coco_json
from detectron2.data.datasets import load_sem_seg as detectron2_load_sem_seg
from detectron2.data.datasets.cityscapes import load_cityscapes_instances, load_cityscapes_semantic
from detectron2.data.datasets.cityscapes_panoptic import load_cityscapes_panoptic
from detectron2.data.datasets.coco_panoptic import load_coco_panoptic_json

from mask2former.data.datasets.categories import load_categories
from mask2former.data.datasets.class_folders import imagenet_rows
from mask2former.data.datasets.lazy_metadata import LazyMetadata
from mask2former.data.datasets.panoptic_subset import subset_json_path
from mask2former.data.datasets.published import published_rows
from mask2former.data.datasets.readers import Record
from mask2former.data.datasets.spec import (
    DatasetSpec,
    instance_task_metadata,
    load_instances,
    load_panoptic,
    load_panoptic_subset,
    load_sem_seg,
    panoptic_task_metadata,
    sem_seg_task_metadata,
)
from mask2former.data.datasets.videos import video_rows

logger = logging.getLogger(__name__)


def data_root() -> str:
    """Return the folder of the data sets: the environment variable DETECTRON2_DATASETS, or "datasets"."""
    return os.environ.get("DETECTRON2_DATASETS", "datasets")


def register_all(root: str | None = None) -> None:
    """Register every data set below ``root``. Repeating it does nothing; another root moves all data sets there.

    Importing the package has done so below :func:`data_root`. Data sets that Detectron2 registers when it is imported
    (below its environment variable ``DETECTRON2_DATASETS``) are moved too, unless ``root`` is the same folder.

    Args:
        root: a folder; :func:`data_root` if None.


    Raises:
        ValueError: something else has registered one of the names.
    """
    root = os.path.expanduser(data_root() if root is None else root)
    if taken := [row.name for row in _all_rows() if _is_taken(row)]:
        raise ValueError(
            f"The data set name {taken[0]!r} is one of this project's, but something else has registered it "
            f"already, with {MetadataCatalog.get(taken[0]).as_dict()}. Give that one another name."
        )
    for row in _all_rows():
        _register(row, root)


def register_at_import() -> None:
    """Register every data set below :func:`data_root`, except for names already taken: an import must not fail."""
    root = os.path.expanduser(data_root())
    rows = list(_all_rows())
    taken = [row.name for row in rows if _is_taken(row)]
    if taken:
        logger.warning("Registered before mask2former was imported, so left as they are: %s.", ", ".join(taken))
    for row in rows:
        if row.name not in taken:
            _register(row, root)


def _all_rows() -> Iterator[DatasetSpec]:
    yield from _own_rows()
    yield from published_rows()
    yield from video_rows()
    yield from imagenet_rows()
    yield from _detectron2_rows()


def _is_taken(row: DatasetSpec) -> bool:
    """Tell whether something else has registered a name that Detectron2 does not register itself."""
    if row.metadata is None or row.name not in DatasetCatalog:
        return False
    loader = DatasetCatalog[row.name]
    return not (isinstance(loader, functools.partial) and loader.func is _load)


def _register(row: DatasetSpec, root: str) -> None:
    paths = {key: os.path.join(root, path) for key, path in row.paths.items()}
    facts = row.metadata
    if row.name in DatasetCatalog:
        known = MetadataCatalog.get(row.name)
        if all(os.path.normpath(getattr(known, key)) == os.path.normpath(path) for key, path in paths.items()):
            return
        facts = known.as_dict if facts is None else facts
        DatasetCatalog.remove(row.name)
        MetadataCatalog.remove(row.name)
    if facts is None:
        raise RuntimeError(f"This Detectron2 does not register {row.name!r} itself, as releases from 0.6 on do.")

    if "subset_of" in paths:
        paths["panoptic_json"] = subset_json_path(row.name, paths["subset_of"])
    MetadataCatalog[row.name] = LazyMetadata(facts, name=row.name, **paths)
    DatasetCatalog.register(row.name, functools.partial(_load, row.name, row.load))


def _load(name: str, load: Callable[[Metadata], list[Record]]) -> list[Record]:
    return load(MetadataCatalog.get(name))


# Detectron2's own loaders, for its own data sets: metadata -> data set dicts.


def _detectron2_coco(meta: Metadata) -> list[Record]:
    return load_coco_json(meta.json_file, meta.image_root, meta.name)


def _detectron2_coco_panoptic(meta: Metadata) -> list[Record]:
    return load_coco_panoptic_json(meta.panoptic_json, meta.image_root, meta.panoptic_root, meta.as_dict())


def _detectron2_sem_seg(meta: Metadata) -> list[Record]:
    return detectron2_load_sem_seg(meta.sem_seg_root, meta.image_root, gt_ext="png", image_ext="jpg")


def _detectron2_cityscapes_instances(meta: Metadata) -> list[Record]:
    return load_cityscapes_instances(meta.image_dir, meta.gt_dir, from_json=True, to_polygons=True)


def _detectron2_cityscapes_sem_seg(meta: Metadata) -> list[Record]:
    return load_cityscapes_semantic(meta.image_dir, meta.gt_dir)


def _detectron2_cityscapes_panoptic(meta: Metadata) -> list[Record]:
    return load_cityscapes_panoptic(meta.image_root, meta.panoptic_root, meta.panoptic_json, meta.as_dict())


def _own_rows() -> Iterator[DatasetSpec]:
    for split in ("train", "val"):
        yield from _coco_rows(split)
        yield from _quickstart_rows(split)
        yield from _nuclei_rows(split)
        yield DatasetSpec(
            f"camvid_{split}_sem_seg",
            load_sem_seg,
            {"image_root": f"camvid/images/{split}", "sem_seg_root": f"camvid/annotations/{split}"},
            lambda: sem_seg_task_metadata(load_categories("camvid")),
        )
    # Two images to try things on. Their instance file lists 133 categories instead of the 80 things, so it is of no
    # use to the instance evaluation.
    yield DatasetSpec(
        "coco_sample_panoptic",
        load_panoptic,
        {
            "panoptic_json": "coco_sample/annotations/panoptic_examples.json",
            "panoptic_root": "coco_sample/panoptic",
            "image_root": "coco_sample/images",
        },
        lambda: panoptic_task_metadata(load_categories("coco")),
    )


def _coco_rows(split: str) -> Iterator[DatasetSpec]:
    # The data set that published configurations evaluate on: PQ, the instances' AP, and mIoU on pngs that
    # datasets/prepare_coco_semantic.py makes.
    yield DatasetSpec(
        f"coco_2017_{split}_panoptic_with_sem_seg",
        load_panoptic,
        {
            "panoptic_json": f"coco/annotations/panoptic_{split}2017.json",
            "panoptic_root": f"coco/panoptic_{split}2017",
            "image_root": f"coco/{split}2017",
            "json_file": f"coco/annotations/instances_{split}2017.json",
            "sem_seg_root": f"coco/panoptic_semseg_{split}2017",
        },
        lambda: panoptic_task_metadata(load_categories("coco")),
    )


def _quickstart_rows(split: str) -> Iterator[DatasetSpec]:
    categories = functools.partial(load_categories, "quickstart")
    images = {"image_root": f"quickstart/images/{split}"}
    instances = {"json_file": f"quickstart/annotations/instances_{split}.json"}
    semantic = {"sem_seg_root": f"quickstart/semantic/{split}"}
    panoptic = {
        "panoptic_json": f"quickstart/annotations/panoptic_{split}.json",
        "panoptic_root": f"quickstart/panoptic/{split}",
    }
    name = f"quickstart_{split}"
    yield DatasetSpec(
        f"{name}_panoptic",
        load_panoptic,
        images | instances | semantic | panoptic,
        lambda: panoptic_task_metadata(categories()),
    )
    yield DatasetSpec(
        f"{name}_instance", load_instances, images | instances, lambda: instance_task_metadata(categories())
    )
    yield DatasetSpec(f"{name}_sem_seg", load_sem_seg, images | semantic, lambda: sem_seg_task_metadata(categories()))


def _nuclei_rows(split: str) -> Iterator[DatasetSpec]:
    categories = functools.partial(load_categories, "nuclei")
    images = {"image_root": f"nuclei/images/{split}"}
    pngs = {"panoptic_root": f"nuclei/panoptic/panoptic_{split}"}
    panoptic_json = f"nuclei/annotations/panoptic_{split}.json"
    for subset in ("", "_fluo256"):
        instances = {"json_file": f"nuclei/annotations/instances_{split}{subset}.json"}
        yield DatasetSpec(
            f"nuclei_{split}_instance{subset}",
            load_instances,
            images | instances,
            lambda: instance_task_metadata(categories()),
        )
        yield DatasetSpec(
            f"nuclei_{split}_panoptic{subset}",
            load_panoptic_subset if subset else load_panoptic,
            images | instances | pngs | {"subset_of" if subset else "panoptic_json": panoptic_json},
            lambda: panoptic_task_metadata(categories()),
        )


def _detectron2_rows() -> Iterator[DatasetSpec]:
    for split in ("train", "val"):
        coco = {"image_root": f"coco/{split}2017", "json_file": f"coco/annotations/instances_{split}2017.json"}
        coco_panoptic = {
            "panoptic_json": f"coco/annotations/panoptic_{split}2017.json",
            "panoptic_root": f"coco/panoptic_{split}2017",
        }
        yield DatasetSpec(f"coco_2017_{split}", _detectron2_coco, coco, None)
        yield DatasetSpec(f"coco_2017_{split}_panoptic", _detectron2_coco_panoptic, coco | coco_panoptic, None)

        part = {"train": "training", "val": "validation"}[split]
        ade20k = {
            "image_root": f"ADEChallengeData2016/images/{part}",
            "sem_seg_root": f"ADEChallengeData2016/annotations_detectron2/{part}",
        }
        yield DatasetSpec(f"ade20k_sem_seg_{split}", _detectron2_sem_seg, ade20k, None)

        raw = {"image_dir": f"cityscapes/leftImg8bit/{split}/", "gt_dir": f"cityscapes/gtFine/{split}/"}
        yield DatasetSpec(f"cityscapes_fine_instance_seg_{split}", _detectron2_cityscapes_instances, raw, None)
        yield DatasetSpec(f"cityscapes_fine_sem_seg_{split}", _detectron2_cityscapes_sem_seg, raw, None)
        cityscapes_panoptic = {
            "image_root": f"cityscapes/leftImg8bit/{split}",
            "gt_dir": f"cityscapes/gtFine/{split}",
            "panoptic_root": f"cityscapes/gtFine/cityscapes_panoptic_{split}",
            "panoptic_json": f"cityscapes/gtFine/cityscapes_panoptic_{split}.json",
        }
        yield DatasetSpec(
            f"cityscapes_fine_panoptic_{split}", _detectron2_cityscapes_panoptic, cityscapes_panoptic, None
        )
