"""Folders of masks: Pascal VOC's and CVAT's, and colour masks with a label map."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mask2former.custom.folders.coco_writer import CocoWriter
from mask2former.custom.folders.folder import (
    TRAIN,
    FolderData,
    from_splits,
    read_small,
    split_of_file,
    split_of_folder,
    subfolders,
)
from mask2former.custom.folders.label_colours import (
    BLACK,
    VOID,
    LabelColours,
    find_label_map,
    read_colours,
    read_label_map,
    voc_labels,
)
from mask2former.custom.label_files import ignored, save_labels, suffix
from mask2former.custom.source import DataError, DataSource, detect_format
from mask2former.data.datasets.readers import IMAGE_SUFFIXES, with_suffix
from mask2former.data.rle.encode import encode_masks

CLASSES, OBJECTS = "SegmentationClass", "SegmentationObject"
IMAGES = ("JPEGImages", "images", "Images", "imgs")
MASKS = (CLASSES, "masks", "labels", "annotations", "Masks", "Labels")
MOST_TEXT = 64 << 20
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class MaskFolder:
    """Images and their masks.

    Attributes:
        root: folder of the data.
        images, classes: folders of the images, and of the masks in the colours of classes.
        objects: folder of the masks in the colours of objects; None: there are classes only.
        colours: colours of the classes.
    """

    root: Path
    images: Path
    classes: Path
    objects: Path | None
    colours: LabelColours


def find_masks(root: Path) -> MaskFolder | None:
    """Return the masks of a folder, or of its subfolder as in VOCdevkit/VOC2012; None if it has no coloured ones."""
    for place in (root, *subfolders(root)):
        label_map = find_label_map(place, root)
        classes = place / CLASSES if (place / CLASSES).is_dir() else None
        if classes is None and label_map is not None:
            classes = next((place / name for name in MASKS if (place / name).is_dir()), None)
        if classes is None:
            continue
        images = next((place / name for name in IMAGES if (place / name).is_dir()), None)
        if images is None:
            raise DataError(f"{place}: {classes.name} is there, but no folder of images ({', '.join(IMAGES)}).")
        colours = read_label_map(label_map) if label_map is not None else voc_labels()
        objects = place / OBJECTS if (place / OBJECTS).is_dir() else None
        return MaskFolder(place, images, classes, objects, colours)
    return None


def read_mask_folder(found: MaskFolder, out: Path) -> FolderData:
    """Convert masks to a COCO file if there are masks of objects, else to label files.

    Raises:
        DataError: images without masks, masks of unknown colours, or objects without a class.
    """
    splits = _splits(found)
    notes = without_masks(found.images, splits)
    if found.objects is not None:
        parts = {split: _convert_objects(found, stems, out / f"{split}.json") for split, stems in splits.items()}
        form = f"objects of {OBJECTS}, classes of {CLASSES} by {found.colours.source}"
        data = from_splits(found.root, form, parts)
        data.notes.append(f"For classes of pixels give {found.images} {found.classes} in place of the folder.")
        data.notes.extend(notes)
        return data
    parts = {
        split: convert_labels(stems, found.colours, out / f"{split}_images", out / f"{split}_labels")
        for split, stems in splits.items()
    }
    form = f"classes of pixels in {found.classes.name}, by the colours of {found.colours.source}"
    data = from_splits(found.root, form, parts, found.colours.names, ignored(len(found.colours.names)))
    data.notes.extend(notes)
    return data


def read_label_folders(root: Path) -> FolderData | None:
    """Return the data of a folder with images and label files of class numbers; None if it is not one."""
    images = next((root / name for name in IMAGES if (root / name).is_dir()), None)
    labels = next((root / name for name in MASKS if (root / name).is_dir()), None)
    if images is None or labels is None:
        return None
    inner = {split: folder for folder in subfolders(labels) if (split := split_of_folder(folder.name))} or {
        TRAIN: labels
    }
    folders = {split: folder for split, folder in inner.items() if any(with_suffix(folder.iterdir(), (".png",)))}
    if not folders:
        return None
    parts = {
        split: detect_format([str(images / folder.relative_to(labels)), str(folder)])
        for split, folder in folders.items()
    }
    return from_splits(root, f"label files of class numbers in {labels.name}", parts)


def convert_labels(
    stems: dict[str, tuple[Path, Path]], colours: LabelColours, images: Path, labels: Path
) -> DataSource:
    """Write label files, and a folder of links to their images.

    Args:
        stems: image and mask, by their name without suffix.
        colours: of the classes.
        images, labels: folders to write.
    """
    count = len(colours.names)
    for folder in (images, labels):
        folder.mkdir(parents=True)
    for stem, (image, mask) in stems.items():
        numbers = colours.numbers(read_colours(str(mask)), str(mask), ignored(count))
        save_labels(numbers.astype(np.uint8 if count <= 255 else np.uint16), labels / f"{stem}{suffix(count)}")
        link = images / f"{stem}{image.suffix}"
        try:
            os.symlink(image.absolute(), link)
        except OSError:  # Windows, without the right to make links
            shutil.copyfile(image, link)
    return DataSource("semantic", str(images), pngs=str(labels))


def pairs(images: Path, masks: Path) -> dict[str, tuple[Path, Path]]:
    """Return image and mask by their name without suffix; images without masks are left out.

    Raises:
        DataError: a mask without an image, or no mask.
    """
    by_stem = {path.stem: path for path in sorted(with_suffix(images.iterdir(), IMAGE_SUFFIXES))}
    found = {path.stem: path for path in sorted(with_suffix(masks.iterdir(), MASK_SUFFIXES))}
    if alone := sorted(found.keys() - by_stem.keys()):
        raise DataError(f"{masks}: {len(alone)} masks have no image in {images}, the first {found[alone[0]].name}.")
    if not found:
        raise DataError(f"{masks} holds no masks ({', '.join(MASK_SUFFIXES)}).")
    return {stem: (by_stem[stem], mask) for stem, mask in found.items()}


def _splits(found: MaskFolder) -> dict[str, dict[str, tuple[Path, Path]]]:
    """Return the pairs by split: those of subfolders, or as ImageSets/Segmentation lists them, or all for training."""
    inner = {split: folder for folder in subfolders(found.classes) if (split := split_of_folder(folder.name))}
    if inner:
        images = {split: found.images / folder.name for split, folder in inner.items()}
        return {
            split: pairs(images[split] if images[split].is_dir() else found.images, folder)
            for split, folder in inner.items()
        }
    all_pairs = pairs(found.images, found.classes)
    lists = found.root / "ImageSets" / "Segmentation"
    listed = sorted(with_suffix(lists.iterdir(), (".txt",))) if lists.is_dir() else []
    files = {split: file for file in listed if (split := split_of_file(file.stem))}
    if TRAIN not in files:
        return {TRAIN: all_pairs}
    splits = {}
    for split, file in files.items():
        stems = [line.split()[0] for line in read_small(file, MOST_TEXT).splitlines() if line.strip()]
        missing = [stem for stem in stems if stem not in all_pairs]
        if missing:
            raise DataError(f"{file}: {len(missing)} of its names have no mask in {found.classes}: {missing[0]!r:.80}.")
        splits[split] = {stem: all_pairs[stem] for stem in stems}
    return splits


def without_masks(images: Path, splits: Mapping[str, Mapping[str, tuple[Path, Path]]]) -> list[str]:
    """Return a line for the user if a folder has images that are in no split."""
    used = {image for stems in splits.values() for image, _ in stems.values()}
    number = sum(path not in used for path in with_suffix(images.iterdir(), IMAGE_SUFFIXES))
    return [f"{number} images of {images} are left out: they have no mask, or are in no list."] if number else []


def _convert_objects(found: MaskFolder, stems: dict[str, tuple[Path, Path]], file: Path) -> DataSource:
    assert found.objects is not None
    names = found.colours.names
    # Where no object is there is background, which is no class of objects.
    things = [number for number, colour in enumerate(found.colours.colours) if colour != BLACK]
    writer = CocoWriter([names[number] for number in things])
    for image, class_mask in stems.values():
        object_mask = found.objects / class_mask.relative_to(found.classes)
        if not object_mask.is_file():
            raise DataError(f"{class_mask}: there is no mask of this name in {found.objects}.")
        classes = found.colours.numbers(read_colours(str(class_mask)), str(class_mask), -1)
        objects = read_colours(str(object_mask))
        if classes.shape != objects.shape:
            raise DataError(f"{object_mask}: (height, width) {objects.shape}, but {classes.shape} in {class_mask}.")
        writer.add_image(image.relative_to(found.images).as_posix(), (classes.shape[0], classes.shape[1]))
        for colour in sorted(set(np.unique(objects).tolist()) - {BLACK, VOID}):
            mask = objects == colour
            counts = np.bincount(classes[mask] + 1, minlength=len(names) + 1)[1:][things]
            if not counts.any():
                rgb = (colour >> 16, colour >> 8 & 255, colour & 255)
                raise DataError(f"{object_mask}: the object of colour {rgb} has no class in {class_mask}.")
            (code,) = encode_masks(mask[None])
            writer.add_object(int(counts.argmax()), code)
    return writer.write(file, found.images)
