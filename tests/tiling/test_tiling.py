"""Tiled inference against a model that knows the truth: it returns crops of it, numbered anew in every tile."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from detectron2.structures import Boxes, Instances
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from mask2former.tiling import TiledInference
from mask2former.tiling.grid import Grid

THINGS, CLASSES = {0, 1}, 4


class Truth:
    """Gives what is drawn in the image: red is the object's number (0: none), green its class."""

    def __call__(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [self.result(one) for one in inputs]

    def result(self, inputs: dict[str, Any]) -> dict[str, Any]:
        image = inputs["image"]
        size = (inputs.get("height") or image.shape[1], inputs.get("width") or image.shape[2])
        image = torch.nn.functional.interpolate(image[None].float(), size, mode="nearest-exact")[0].long()
        numbers, classes = image[0], image[1]
        panoptic, segments, stuff = torch.zeros(size, dtype=torch.int32), [], {}
        found = Instances(size)
        masks, kinds = [], []
        for number in numbers.unique(sorted=True).flip(0).tolist():  # another order than the image's
            if not number:
                continue
            mask = numbers == number
            category = int(classes[mask][0])
            thing = category in THINGS
            if thing:
                masks.append(mask)
                kinds.append(category)
            if not thing and category in stuff:
                panoptic[mask] = stuff[category]
                continue
            segments.append({"id": len(segments) + 5, "isthing": thing, "category_id": category})
            panoptic[mask] = segments[-1]["id"]
            stuff[category] = segments[-1]["id"]
        found.pred_masks = torch.stack(masks) if masks else torch.zeros(0, *size, dtype=torch.bool)
        found.pred_classes, found.scores = torch.tensor(kinds, dtype=torch.int64), torch.full((len(masks),), 0.75)
        found.pred_boxes = Boxes(torch.zeros(len(masks), 4))
        scores = torch.nn.functional.one_hot(classes, CLASSES).permute(2, 0, 1).float()
        return {"panoptic_seg": (panoptic, segments), "instances": found, "sem_seg": scores}


def random_image(seed: int, size: tuple[int, int], count: int) -> Tensor:
    """uint8 [3, H, W] with rectangles on it, each an object of its own, large enough to reach across an overlap."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.zeros(3, *size, dtype=torch.uint8)
    for number in range(1, count + 1):
        height, width = (int(torch.randint(6, length // 2, (1,), generator=generator)) for length in size)
        top = int(torch.randint(0, size[0] - height, (1,), generator=generator))
        left = int(torch.randint(0, size[1] - width, (1,), generator=generator))
        category = int(torch.randint(0, CLASSES, (1,), generator=generator))
        image[0, top : top + height, left : left + width] = number
        image[1, top : top + height, left : left + width] = category
    return image


def as_set(panoptic: tuple[Tensor, list[dict[str, Any]]]) -> set[tuple[int, bool, bytes]]:
    labels, segments = panoptic
    assert set(labels.unique().tolist()) - {0} == {segment["id"] for segment in segments}
    masks = ((segment, labels == segment["id"]) for segment in segments)
    return {(segment["category_id"], segment["isthing"], mask.numpy().tobytes()) for segment, mask in masks}


def objects(instances: Instances) -> list[tuple[int, float, bytes]]:
    rows = zip(instances.pred_classes.tolist(), instances.scores.tolist(), instances.pred_masks, strict=True)
    return sorted((category, round(score, 4), mask.numpy().tobytes()) for category, score, mask in rows)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    size=st.tuples(st.integers(40, 90), st.integers(40, 90)),
    count=st.integers(0, 7),
    tiles=st.sampled_from([(32, 8), (40, 12), (64, 10), (33, 1)]),
)
def test_objects_across_seams_are_one(seed: int, size: tuple[int, int], count: int, tiles: tuple[int, int]) -> None:
    """Every object is a connected region, so tiles see it in their overlap or not at all."""
    image = random_image(seed, size, count)
    expected = Truth()([{"image": connected(image)}])[0]
    found = TiledInference(Truth(), *tiles)([{"image": connected(image)}])[0]
    assert as_set(found["panoptic_seg"]) == as_set(expected["panoptic_seg"])
    assert objects(found["instances"]) == objects(expected["instances"])
    assert torch.equal(found["sem_seg"], expected["sem_seg"])


def connected(image: Tensor) -> Tensor:
    """The same with each connected part of an object an object of its own."""
    import cv2

    numbers, total = torch.zeros_like(image[0]), 0
    for number in image[0].unique().tolist():
        if number:
            count, parts = cv2.connectedComponents((image[0] == number).numpy().astype("uint8"), connectivity=4)
            for part in range(1, count):
                total += 1
                numbers[torch.from_numpy(parts == part)] = total
    assert total < 256
    return torch.stack([numbers, image[1], image[2]])


def test_neighbours_of_one_class_stay_apart() -> None:
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    image[0, 10:20, 2:60], image[0, 20:30, 2:60] = 1, 2
    found = TiledInference(Truth(), 32, 8)([{"image": image}])[0]
    assert len(found["panoptic_seg"][1]) == len(found["instances"]) == 2
    assert found["instances"].pred_boxes.tensor.tolist() == [[2, 20, 60, 30], [2, 10, 60, 20]]


def test_result_of_another_size() -> None:
    image = torch.zeros(3, 64, 80, dtype=torch.uint8)
    image[0, 8:56, 16:64] = 1
    inputs = {"image": image, "height": 96, "width": 40}
    found = TiledInference(Truth(), 40, 8)([inputs])[0]
    assert found["panoptic_seg"][0].shape == (96, 40) and found["sem_seg"].shape == (CLASSES, 96, 40)
    assert len(found["panoptic_seg"][1]) == 1
    expected = Truth()([inputs])[0]["panoptic_seg"][0] > 0
    assert ((found["panoptic_seg"][0] > 0) != expected).float().mean() < 0.03  # a pixel at the seams


def test_compact_results_are_the_same() -> None:
    image = connected(random_image(3, (70, 90), 6))
    whole = TiledInference(Truth(), 32, 8)([{"image": image}])[0]
    compact = TiledInference(Truth(), 32, 8, compact=True)([{"image": image}])[0]
    assert compact["sem_seg_labels"].dtype == torch.int16 and "sem_seg" not in compact
    assert torch.equal(compact["sem_seg_labels"].long(), whole["sem_seg"].argmax(0))
    boxes = compact["instances"].pred_boxes.tensor.int().tolist()
    for (x0, y0, x1, y1), crop, mask in zip(
        boxes, compact["instances"].mask_crops, whole["instances"].pred_masks, strict=True
    ):
        assert torch.equal(mask[y0:y1, x0:x1], crop) and mask.sum() == crop.sum()


def test_one_tile_is_the_model_itself() -> None:
    class Model(Truth):
        given: list[Any]

        def __call__(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
            self.given = inputs
            self.answer = super().__call__(inputs)
            return self.answer

    model, inputs = Model(), {"image": random_image(0, (50, 64), 4), "file_name": "x"}
    (found,), (expected,) = TiledInference(model, 64, 16)([inputs]), model.answer
    assert torch.equal(found["panoptic_seg"][0], expected["panoptic_seg"][0])
    assert found["panoptic_seg"][1] == expected["panoptic_seg"][1]
    assert torch.equal(found["sem_seg"], expected["sem_seg"])
    assert objects(found["instances"]) == objects(expected["instances"])
    assert model.given[0]["image"] is inputs["image"] and model.given[0]["file_name"] == "x"


@given(length=st.integers(1, 500), tile=st.integers(3, 100), overlap=st.integers(0, 49), scale=st.floats(0.5, 3))
def test_cores_cover_the_image_once(length: int, tile: int, overlap: int, scale: float) -> None:
    if 2 * overlap >= tile:
        return
    target = max(1, round(length * scale))
    tiles = list(Grid.over((length, tile), (target, tile), tile, overlap))
    assert tiles[0].core_rows[0] == 0 and tiles[-1].core_rows[1] == target
    for one, two in itertools.pairwise(tiles):
        assert one.core_rows[1] == two.core_rows[0]
        assert one.source[0].stop - two.source[0].start >= overlap
    assert all(t.source[0].stop - t.source[0].start <= tile and t.rows[0] <= t.core_rows[0] for t in tiles)


@pytest.mark.parametrize("tiles", [1, 2])
def test_results_lie_on_the_cpu(tiles: int) -> None:
    """The device is one that needs no hardware: tensors without values, which joining instances would look at."""

    def model(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        size = tuple(batch[0]["image"].shape[1:])
        result: dict[str, Any] = {"sem_seg": torch.zeros(CLASSES, *size, device="cuda")}
        if tiles == 1:
            result["instances"] = Instances(size, scores=torch.zeros(0, device="cuda"))
            result["panoptic_seg"] = torch.zeros(size, dtype=torch.int32, device="cuda"), []
        return [result]

    with FakeTensorMode():
        found = TiledInference(model, 64, 16)([{"image": torch.zeros(3, 50, 40 * tiles, dtype=torch.uint8)}])[0]
    tensors = [found["sem_seg"]]
    if tiles == 1:
        tensors += [found["instances"].scores, found["panoptic_seg"][0]]
    assert {tensor.device.type for tensor in tensors} == {"cpu"}
    assert found["sem_seg"].shape == (CLASSES, 50, 40 * tiles)


@pytest.mark.parametrize("overlap", [-1, 32, 40, 64, 100])
def test_bad_overlap_is_told(overlap: int) -> None:
    with pytest.raises(ValueError, match=f"tile is 64, overlap {overlap}; .*less than half a tile"):
        TiledInference(Truth(), 64, overlap)


@pytest.mark.parametrize("tile", [0, -64])
def test_a_tile_has_pixels(tile: int) -> None:
    with pytest.raises(ValueError, match=f"tile is {tile}; it has to be at least 1 pixel"):
        TiledInference(Truth(), tile, 0)


def test_a_result_has_pixels_of_every_tile() -> None:
    inputs = {"image": torch.zeros(3, 100, 70, dtype=torch.uint8), "height": 1, "width": 70}
    with pytest.raises(ValueError, match=r"result of 1 x 70 pixels is too small.* in tiles of 16"):
        TiledInference(Truth(), 16, 4)([inputs])
