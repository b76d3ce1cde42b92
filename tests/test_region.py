"""A region of interest: what the network sees, and where its results go."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor

from mask2former.region import VOID, RegionInference

FILL = [10.4, 20.0, 30.0]
HEIGHT, WIDTH = 200, 300


class Echo:
    """Keeps what it sees; its results are made of the image's first channel, resized to the wanted size."""

    def __call__(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        (inputs,) = batch
        self.seen = inputs
        red = inputs["image"][:1, None].float()
        red = torch.nn.functional.interpolate(red, (inputs["height"], inputs["width"]), mode="nearest-exact")[0, 0]
        found = Instances(tuple(red.shape))
        found.pred_masks = torch.stack([red > 100, torch.zeros_like(red, dtype=torch.bool)])
        found.pred_boxes, found.scores = Boxes(torch.zeros(2, 4)), torch.tensor([0.9, 0.8])
        ids = (red > 100).int() * 2 + 1
        segments = [{"id": n, "category_id": n, "isthing": False} for n in (1, 2, 3)]
        labels = (red > 100).short()
        return [{"sem_seg": torch.stack([red, red]), "sem_seg_labels": labels, "panoptic_seg": (ids, segments),
                 "instances": found}]  # fmt: skip


def make(scale: int = 1) -> tuple[dict[str, Any], Tensor]:
    """An image with a bright rectangle, part of which is marked, and the marked pixels at the result's size."""
    image = torch.randint(0, 50, (3, HEIGHT, WIDTH), dtype=torch.uint8)
    image[:, 80:120, 100:160] = 200
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.uint8)
    mask[90:110, 90:140] = 255
    inputs = {"image": image, "mask": mask, "height": HEIGHT * scale, "width": WIDTH * scale, "file_name": "a.png"}
    return inputs, (mask != 0).repeat_interleave(scale, 0).repeat_interleave(scale, 1)


def test_only_marked_pixels_are_seen() -> None:
    inputs, _ = make()
    model = Echo()
    RegionInference(model, FILL, margin=10)([inputs])
    seen = model.seen["image"]
    # 20 rows become 64, the least that is shown, as 32 around the middle; 50 columns have a margin of 10.
    assert seen.shape == (3, 64, 70) and "mask" not in model.seen
    marked = torch.zeros(64, 70, dtype=torch.bool)
    marked[22:42, 10:60] = True
    assert torch.equal(seen[:, marked], inputs["image"][:, 90:110, 90:140].flatten(1))
    assert (seen[:, ~marked] == torch.tensor([10, 20, 30], dtype=torch.uint8)[:, None]).all()


@pytest.mark.parametrize("scale", [1, 3])
def test_results_have_the_whole_size(scale: int) -> None:
    inputs, marked = make(scale)
    (found,) = RegionInference(Echo(), FILL, margin=10)([inputs])
    bright = torch.zeros_like(marked)
    bright[90 * scale : 110 * scale, 100 * scale : 140 * scale] = True  # marked and bright
    assert torch.equal(found["sem_seg_labels"] == 1, bright)
    assert torch.equal(found["sem_seg_labels"] == VOID, ~marked)
    assert not found["sem_seg"][:, ~marked].any() and (found["sem_seg"][0, bright] == 200).all()
    ids, segments = found["panoptic_seg"]
    assert torch.equal(ids == 3, bright) and torch.equal(ids == 1, marked & ~bright) and not ids[~marked].any()
    assert [segment["id"] for segment in segments] == [1, 3]
    instances = found["instances"]
    assert torch.equal(instances.pred_masks[0], bright) and instances.scores.tolist() == pytest.approx([0.9])
    assert instances.pred_boxes.tensor.tolist() == [[100 * scale, 90 * scale, 140 * scale, 110 * scale]]


def test_images_without_a_mask_are_left_to_the_model() -> None:
    inputs, _ = make()
    del inputs["mask"]
    model = Echo()
    RegionInference(model, FILL)([inputs])
    assert model.seen is inputs


@pytest.mark.parametrize("place", [(0, 0), (HEIGHT - 2, WIDTH - 2), (0, WIDTH - 2)])
def test_corners(place: tuple[int, int]) -> None:
    inputs, _ = make()
    inputs["mask"].zero_()
    inputs["mask"][place[0] : place[0] + 2, place[1] : place[1] + 2] = 1
    model = Echo()
    (found,) = RegionInference(model, FILL, margin=0)([inputs])
    assert model.seen["image"].shape == (3, 64, 64)
    assert torch.equal(found["sem_seg_labels"] != VOID, inputs["mask"] != 0)


def test_what_is_refused() -> None:
    inputs, _ = make()
    with pytest.raises(ValueError, match=r"a\.png.*marks no pixel"):
        RegionInference(Echo(), FILL)([{**inputs, "mask": torch.zeros(HEIGHT, WIDTH)}])
    with pytest.raises(ValueError, match=r"a\.png.*\(200, 300\).*\(5, 5\)"):
        RegionInference(Echo(), FILL)([{**inputs, "mask": torch.ones(5, 5)}])
    with pytest.raises(ValueError, match="clip"):
        RegionInference(Echo(), FILL)([{**inputs, "image": [inputs["image"]]}])
