"""Custom data sets: checked, split if necessary, and registered in Detectron2's catalogs."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from mask2former.custom.ground_truth import write_instances, write_panoptic
from mask2former.custom.label_files import has_holes, ignored, label_categories, label_values, write_contiguous
from mask2former.custom.notes import held_out_classes, listed_images, shared_images, warnings
from mask2former.custom.source import DataError, DataSource, coco_categories
from mask2former.custom.videos import as_youtube_vis, listed_videos, write_chosen
from mask2former.data.checks import Report, check_instances, check_panoptic, check_videos
from mask2former.data.checks.dataset import check_labels
from mask2former.data.coco.ground_truth import image_numbers
from mask2former.data.datasets.categories import Category
from mask2former.data.datasets.readers import Record, read_coco_instances, read_coco_panoptic, read_sem_seg
from mask2former.data.datasets.spec import (
    IGNORE_LABEL,
    instance_task_metadata,
    panoptic_task_metadata,
    sem_seg_task_metadata,
)
from mask2former.data.datasets.videos import EVALUATOR_TYPE, read_video_instances

HELD_OUT_SHARE, HELD_OUT_MOST = 0.15, 1000  # of the training images, if none are given for validation
SEED = 0


@dataclass(frozen=True)
class Split:
    """The images for training, or those for validation.

    Attributes:
        name: in Detectron2's catalogs.
        source: where the images and annotations are.
        num_images: number of images, or frames of videos, that count.
        only: ids of the images or videos that count; all if None.
        paths: metadata that the evaluators read, by key.
        num_videos: number of videos that count; 0 for data of images.
    """

    name: str
    source: DataSource
    num_images: int
    only: frozenset[Any] | None = None
    paths: dict[str, str] = field(default_factory=dict)
    num_videos: int = 0


@dataclass(frozen=True)
class CustomDataset:
    """A data set that can be trained on. It can be sent to other processes, each of which calls :meth:`register`.

    Attributes:
        kind: "instance", "panoptic", "semantic" or "video".
        categories: the classes, by ascending id in the annotation files.
        ignore_label: label of pixels without a class.
        train, val: the two parts.
        report: result of checking the training data.
        notes: lines for the user to read before the training.
    """

    kind: str
    categories: list[Category]
    ignore_label: int
    train: Split
    val: Split
    report: Report
    notes: list[str]

    def register(self, *parts: Split) -> None:
        """Register some parts, or both, in the catalogs of this process."""
        for part in parts or (self.train, self.val):
            MetadataCatalog.get(part.name).set(
                **self._facts(), image_root=part.source.images, **(self._folders(part) | part.paths)
            )
            DatasetCatalog.register(part.name, functools.partial(self._records, part))

    def _facts(self) -> dict[str, Any]:
        if self.kind == "panoptic":
            return {**panoptic_task_metadata(self.categories), "ignore_label": ignored(len(self.categories))}
        if self.kind == "instance":
            return instance_task_metadata(self.categories)
        if self.kind == "video":
            return {**instance_task_metadata(self.categories), "evaluator_type": EVALUATOR_TYPE}
        return sem_seg_task_metadata(self.categories, self.ignore_label)

    def _folders(self, part: Split) -> dict[str, str]:
        source = part.source
        if self.kind == "panoptic":
            return {"panoptic_json": str(source.annotations), "panoptic_root": str(source.pngs)}
        of_objects = self.kind in ("instance", "video")
        return {"json_file": str(source.annotations)} if of_objects else {"sem_seg_root": str(source.pngs)}

    def _records(self, part: Split) -> list[Record]:
        records = [record for record in self._all(part) if part.only is None or record["image_id"] in part.only]
        if self.kind in ("instance", "panoptic"):
            numbers = image_numbers(listed_images(part.source))
            for record in records:
                record["image_id"] = numbers[record["image_id"]]
        return records

    def _all(self, part: Split) -> list[Record]:
        source = part.source
        if self.kind == "semantic":
            return read_sem_seg(source.images, str(source.pngs))
        facts = self._facts()
        things = facts["thing_dataset_id_to_contiguous_id"]
        if self.kind == "instance":
            return read_coco_instances(str(source.annotations), source.images, things)
        if self.kind == "video":
            return read_video_instances(str(source.annotations), source.images, things)
        everything = facts["stuff_dataset_id_to_contiguous_id"]
        labels = part.paths.get("sem_seg_root")
        return read_coco_panoptic(
            str(source.annotations), str(source.pngs), source.images, things, everything, labels, part.only
        )


def build_dataset(
    train: DataSource,
    val: DataSource | None,
    folder: Path,
    name: str,
    class_names: Sequence[str] = (),
    ignore_label: int = IGNORE_LABEL,
) -> CustomDataset:
    """Check the data, choose the images for validation, and write what the evaluation needs to ``folder``.

    Args:
        train, val: the data; if ``val`` is None, a share of ``train`` is held out, the same each time.
        folder: where label files with contiguous numbers, tracks of other forms and ground truth are written.
        name: the parts are registered as ``custom_<name>_train`` and ``custom_<name>_val``.
        class_names: names of the classes in label files and MOTS's labels, which hold only numbers.
        ignore_label: label of pixels without a class, in label files.

    Raises:
        DataError: the data have faults that would stop the training; the message lists them (at most 100 lines).
    """
    if val is not None and val.kind != train.kind:
        raise DataError(
            f"The training data are {train.kind}, but the validation data are {val.kind}. Give one kind for both."
        )
    notes: list[str] = []
    if train.kind == "video":
        train = as_youtube_vis(train, folder / "train_videos.json", class_names, notes)
        val = None if val is None else as_youtube_vis(val, folder / "val_videos.json", class_names, notes)
    sources = [train] if val is None else [train, val]
    if train.kind == "semantic":
        categories = label_categories(label_values(sources), ignore_label, class_names)
        if not class_names:
            notes.append("Classes are named after their numbers; give names by --classes.")
        if has_holes(categories, ignore_label):
            copies = (folder / "train_labels", folder / "val_labels")
            sources = [write_contiguous(source, categories, to) for source, to in zip(sources, copies, strict=False)]
            notes.append(
                f"Labels are not 0, 1, 2, ...; copies numbered 0 to {len(categories) - 1} were written to {folder}."
            )
            ignore_label = ignored(len(categories))
    else:
        categories = coco_categories(train)
        if val is not None:
            _require_same(categories, val)
    reports = [_check(source, categories, ignore_label) for source in sources]
    _require_sound(reports)
    for source, report in zip(sources, reports, strict=True):
        notes += warnings(source, report)
    if val is not None:
        notes += shared_images(*sources)
    unit = "videos" if train.kind == "video" else "images"
    held_out, rest = (None, None) if val is not None else _hold_out(_ids(sources[0]), notes, unit)
    if rest is not None:
        notes += held_out_classes(reports[0], rest)
    numbers = [_numbers(*part) for part in ((sources[0], reports[0], rest), (sources[-1], reports[-1], held_out))]
    return CustomDataset(
        kind=train.kind,
        categories=categories,
        ignore_label=ignore_label,
        train=Split(f"custom_{name}_train", sources[0], numbers[0][0], rest, num_videos=numbers[0][1]),
        val=Split(
            f"custom_{name}_val",
            sources[-1],
            numbers[1][0],
            held_out,
            _truth(sources[-1], held_out, categories, folder / "val"),
            numbers[1][1],
        ),
        report=reports[0],
        notes=notes,
    )


def _numbers(source: DataSource, report: Report, only: frozenset[Any] | None) -> tuple[int, int]:
    """Return how many images, or frames, and videos count."""
    if source.kind != "video":
        return (report.counts["images"] if only is None else len(only)), 0
    lengths = [len(one.paths) for id_, one in listed_videos(source).items() if one and (only is None or id_ in only)]
    return sum(lengths), len(lengths)


def _require_same(categories: Sequence[Category], val: DataSource) -> None:
    known = {category["id"]: category["name"] for category in categories}
    for category in coco_categories(val):
        if known.get(category["id"]) != category["name"]:
            raise DataError(
                f"{val.annotations}: category {category['id']} is {category['name']!r}, but "
                f"{known.get(category['id'], 'nothing')!r} in the training data. Both need the same classes."
            )


def _check(source: DataSource, categories: Sequence[Category], ignore_label: int) -> Report:
    names = {category["id"]: category["name"] for category in categories}
    if source.kind == "instance":
        return check_instances(str(source.annotations), source.images, names)
    if source.kind == "video":
        return check_videos(str(source.annotations), source.images, names)
    if source.kind == "panoptic":
        return check_panoptic(str(source.annotations), str(source.pngs), source.images, names)
    return check_labels(source.images, str(source.pngs), [category["name"] for category in categories], ignore_label)


def _require_sound(reports: Sequence[Report]) -> None:
    number = sum(len(report.stopping) for report in reports)
    if number:
        lines = [line for report in reports for line in report.lines(report.stopping)]
        shown = [f"  {line}" for line in lines[:100]]
        more = [f"  ... and {len(lines) - 100} more lines"] if len(lines) > 100 else []
        raise DataError(f"{number} fault{'s' * (number > 1)} would stop the training:\n" + "\n".join(shown + more))
    if not any(report.sizes for report in reports):
        raise DataError("There is no image.")
    if not reports[0].objects:
        crowds = reports[0].counts["crowds"]
        why = f" All its {crowds} annotations are crowds (iscrowd 1), which are not learnt." if crowds else ""
        raise DataError(f"There is no annotated object in the training data.{why}")


def _ids(source: DataSource) -> list[Any]:
    if source.kind == "semantic":
        return [record["image_id"] for record in read_sem_seg(source.images, str(source.pngs))]
    return list(listed_videos(source) if source.kind == "video" else listed_images(source))


def _hold_out(ids: list[Any], notes: list[str], unit: str) -> tuple[frozenset[Any] | None, frozenset[Any] | None]:
    if len(ids) < 2:
        one = unit.removesuffix("s")
        notes.append(f"warning: there is only one {one}, for training and evaluation, so scores mean nothing.")
        return None, None
    count = min(max(1, round(HELD_OUT_SHARE * len(ids))), HELD_OUT_MOST)
    chosen = frozenset(random.Random(SEED).sample(sorted(ids, key=str), count))
    notes.append(f"No --val: {count} of {len(ids)} {unit} are held out of the training, the same each time.")
    return chosen, frozenset(ids) - chosen


def _truth(source: DataSource, only: frozenset[Any] | None, categories: list[Category], folder: Path) -> dict[str, str]:
    if source.kind == "panoptic":
        return write_panoptic(source, only, categories, folder)
    if source.kind == "instance":
        write_instances(source, only, categories, folder / "instances.json")
        return {"json_file": str(folder / "instances.json")}
    if source.kind == "video" and only is not None:
        write_chosen(source, only, folder / "videos.json")
        return {"json_file": str(folder / "videos.json")}
    return {}
