"""Copy-paste, against pixels worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, Instances

from mask2former.data.mapper.copy_paste import CopyPaste

SIZE = (16, 16)
THING, STUFF, OTHER = 0, 1, 2


def mapped(grey: int, parts: list[tuple[int, slice]], size: tuple[int, int] = SIZE) -> dict[str, Any]:
    masks = torch.zeros(len(parts), *size, dtype=torch.bool)
    for mask, (_, rows) in zip(masks, parts, strict=True):
        mask[rows] = True
    classes = torch.tensor([label for label, _ in parts], dtype=torch.int64)
    image = torch.full((3, *size), grey, dtype=torch.uint8)
    return {"image": image, "instances": Instances(size, gt_classes=classes, gt_masks=BitMasks(masks))}


OWN = [(THING, slice(0, 4)), (STUFF, slice(4, 12))]
DONOR = [(THING, slice(2, 6)), (STUFF, slice(8, 16)), (OTHER, slice(6, 8))]


def build(own: Any = OWN, donor: Any = DONOR, size: tuple[int, int] = SIZE, least: float = 0.0) -> CopyPaste:
    return CopyPaste(lambda _: mapped(1, own), lambda _: mapped(9, donor, size), [{}], {THING}, least)


def test_each_pixel_shows_and_belongs_to_what_was_pasted_last() -> None:
    seen = set()
    for seed in range(40):
        np.random.seed(seed)
        result = build()({})
        instances = result["instances"]
        masks, labels = instances.gt_masks.tensor, instances.gt_classes.tolist()
        assert masks.sum(dim=0).max() == 1 and masks.flatten(1).any(dim=1).all()
        assert labels.count(STUFF) == 1 and labels.count(THING) == 2  # stuff is joined, things are not
        from_donor = result["image"][0, :, 0] == 9
        stuff_pasted, other_pasted = bool(from_donor[8]), bool(from_donor[6])
        expected = torch.zeros(16, dtype=torch.bool)
        expected[2:6] = True  # the donor's thing, always
        expected[8:16] |= stuff_pasted
        expected[6:8] |= other_pasted
        assert torch.equal(from_donor, expected)
        stuff = torch.zeros(16, dtype=torch.bool)
        stuff[6:12] = True  # what the thing left of the image's own
        stuff[8:16] |= stuff_pasted
        stuff[6:8] &= not other_pasted
        assert torch.equal(masks[labels.index(STUFF)][:, 0], stuff)
        seen.add((stuff_pasted, other_pasted))
    assert len(seen) == 4


def test_a_seed_repeats_the_image() -> None:
    results = []
    for _ in range(2):
        np.random.seed(3)
        results.append(build()({}))
    assert torch.equal(results[0]["image"], results[1]["image"])


def test_an_object_that_is_covered_is_dropped() -> None:
    result = build([(THING, slice(3, 5))], [(THING, slice(0, 16))])({})
    assert len(result["instances"]) == 1 and (result["image"] == 9).all()


def test_an_image_with_little_labelled_gives_way() -> None:
    calls = []

    def read(record: dict[str, Any]) -> dict[str, Any]:
        calls.append(record["file_name"])
        return mapped(1, OWN if record["file_name"] == "full" else [])

    paste = CopyPaste(read, lambda _: mapped(9, []), [{"file_name": "full"}], {THING})
    assert len(paste({"file_name": "empty"})["instances"]) == 2 and calls == ["empty", "full"]


def test_a_data_set_without_labels_ends_with_an_error() -> None:
    with pytest.raises(ValueError, match=r"empty\.png: neither it nor any of 19"):
        build([], [])({"file_name": "empty.png"})


def test_images_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one size; found \(3, 16, 16\) and \(3, 16, 20\)"):
        build(size=(16, 20))({})
