"""Read COCO instance files whose images are frames of videos and whose annotations say which object they show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from mask2former.data.coco.categories import read_categories
from mask2former.data.coco.faults import Sink
from mask2former.data.coco.file import CocoImage, Id, read_images
from mask2former.data.coco.instances import CocoInstance, read_instances
from mask2former.data.coco.rules import identifier, whole_number
from mask2former.data.video_forms.youtube_vis import FormVideo

TRACK_KEYS = ("track_id", "instance_id")
FRAME_KEYS = ("frame_id", "frame_index")


def has_video_ids(content: Mapping[str, Any]) -> bool:
    """Tell whether images say their video (``video_id``), and annotations their track."""
    images, annotations = content.get("images"), content.get("annotations")
    return (
        isinstance(images, list)
        and isinstance(annotations, list)
        and any(isinstance(one, dict) and "video_id" in one for one in images)
        and any(isinstance(one, dict) and _key(one, TRACK_KEYS) is not None for one in annotations)
    )


def read_coco_frames(content: Mapping[str, Any], file: str, image_root: str, sink: Sink) -> Iterator[FormVideo]:
    """Read the videos of a file, one at a time, in the order of their first images.

    Args:
        content: content of ``file``. Each image has ``video_id`` and, in all images or in none, its number in the
            video, ``frame_id`` or ``frame_index``; without numbers, the order of the file counts. Each annotation has
            ``track_id`` or ``instance_id``, which tells the objects of a video apart.
        file: annotation file.
        image_root: folder of the images.
        sink: receives faults. Annotations that have only a box are left out and said to be.
    """
    images = read_images(content, file, image_root, sink)
    raw = {identifier(one.get("id")): one for one in content["images"] if isinstance(one, dict)}
    named = content.get("videos")
    entries = [one for one in named if isinstance(one, dict)] if isinstance(named, list) else []
    names = {identifier(one.get("id")): one.get("name") for one in entries}
    members: dict[Id, list[CocoImage]] = defaultdict(list)
    for image in (image for image in images.values() if image is not None):
        owned_by = identifier(raw[image.id].get("video_id"))
        if owned_by is None:
            found = raw[image.id].get("video_id")
            sink.fault(file, f"image {image.id}: video_id is {found!r:.40}; every image has to say its video")
        else:
            members[owned_by].append(image)
    categories = {category["id"] for category in read_categories(content, file, False, sink)}
    owner = {image.id: video for video, frames in members.items() for image in frames}
    objects: dict[Id, list[CocoInstance]] = defaultdict(list)
    for annotation in read_instances(content, file, images, categories, sink):
        if annotation.image_id in owner:
            objects[owner[annotation.image_id]].append(annotation)
    for number, frames in members.items():
        ordered = _in_order(frames, raw, file, number, sink)
        sizes = {image.size for image in ordered}
        if len(sizes) != 1:
            text = f"video {number}: its images have the sizes (height, width) {sorted(sizes)}"
            sink.fault(file, f"{text}; all need one size")
            continue
        video = FormVideo(number, str(names.get(number) or number), sizes.pop(), [one.file_name for one in ordered])
        places = {image.id: place for place, image in enumerate(ordered)}
        for annotation in objects[number]:
            entry = content["annotations"][annotation.position]
            key = _key(entry, TRACK_KEYS)
            track = None if key is None else identifier(entry[key])
            if track is None:
                sink.fault(file, f"{annotation.where}: it does not say its track, by one of {', '.join(TRACK_KEYS)}")
                continue
            # A crowd is a track of its own, for some files give all crowds one number.
            name = f"{track} (crowd, class {annotation.category_id})" if annotation.iscrowd else track
            place, mask = places[annotation.image_id], annotation.segmentation
            video.add(name, annotation.category_id, place, mask, sink, (file, annotation.where))
            video.tracks[name].iscrowd = annotation.iscrowd
        yield video


def _in_order(
    frames: list[CocoImage], raw: Mapping[Any, Mapping[str, Any]], file: str, video: Id, sink: Sink
) -> list[CocoImage]:
    numbers: dict[int, CocoImage] = {}
    keys = [_key(raw[image.id], FRAME_KEYS) for image in frames]
    if all(key is None for key in keys):
        return frames
    for image, key in zip(frames, keys, strict=True):
        number = None if key is None else whole_number(raw[image.id][key])
        if number is None:
            text = f"image {image.id}: its number in video {video} ({' or '.join(FRAME_KEYS)}) has to be an integer"
            sink.fault(file, f"{text}, as that of the video's other images")
        elif number in numbers:
            sink.fault(file, f"image {image.id}: frame {number} of video {video} is image {numbers[number].id} already")
        else:
            numbers[number] = image
    return [numbers[number] for number in sorted(numbers)]


def _key(entry: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    return next((key for key in keys if entry.get(key) is not None), None)
