"""Drawing results and ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Instances
from pycocotools import mask as coco_mask

from mask2former.data.datasets.categories import load_categories, panoptic_metadata
from mask2former.visualization import (
    MODES,
    Region,
    add_legend,
    contact_sheet,
    draw_ground_truth,
    draw_regions,
    draw_result,
    enlargement,
    save_comparisons,
    side_by_side,
)
from mask2former.visualization.labels import Label, letter_size, write_labels
from mask2former.visualization.regions import annotation_regions

HEIGHT, WIDTH = 96, 128
BALL, SKY, GRASS = 3, 8, 11  # contiguous numbers of the quickstart classes
SQUARE = np.s_[40:60, 20:50]  # where the ball is


@pytest.fixture
def metadata() -> Metadata:
    return Metadata().set(ignore_label=255, **panoptic_metadata(load_categories("quickstart")))


@pytest.fixture
def image() -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), 128, np.uint8)


def square() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[SQUARE] = True
    return mask


def panoptic_output() -> dict[str, Any]:
    ids = torch.zeros(HEIGHT, WIDTH, dtype=torch.int32)
    ids[:30], ids[SQUARE] = 1, 2
    segments = [
        {"id": 1, "isthing": False, "category_id": SKY},
        {"id": 2, "isthing": True, "category_id": BALL},
    ]
    return {"panoptic_seg": (ids, segments)}


def instance_output(*scores: float) -> dict[str, Any]:
    instances = Instances((HEIGHT, WIDTH))
    instances.pred_masks = torch.from_numpy(np.stack([square()] * len(scores)) if scores else np.zeros((0, HEIGHT, 1)))
    instances.pred_classes = torch.full((len(scores),), BALL)
    instances.scores = torch.tensor(scores)
    return {"instances": instances}


def semantic_output() -> dict[str, Any]:
    scores = torch.zeros(12, HEIGHT, WIDTH)
    scores[GRASS] = 0.5
    scores[BALL, 40:60, 20:50] = 1.0
    return {"sem_seg": scores}


def colour_at(drawn: np.ndarray, y: int, x: int) -> np.ndarray:
    """Mean colour of a pixel of the original image in the drawn one."""
    factor = drawn.shape[0] // HEIGHT
    return drawn[y * factor : (y + 1) * factor, x * factor : (x + 1) * factor].reshape(-1, 3).mean(axis=0)


def changed(drawn: np.ndarray, y: int, x: int) -> bool:
    return bool(np.abs(colour_at(drawn, y, x) - 128).max() > 8)


def test_small_images_are_enlarged_by_a_whole_factor(image: np.ndarray, metadata: Metadata) -> None:
    assert enlargement(image) == 4
    assert draw_result(image, panoptic_output(), metadata).shape == (4 * HEIGHT, 4 * WIDTH, 3)
    large = np.zeros((600, 500, 3), np.uint8)
    assert draw_regions(large, []).shape == large.shape


def test_panoptic(image: np.ndarray, metadata: Metadata) -> None:
    drawn = draw_result(image, panoptic_output(), metadata)
    assert drawn.dtype == np.uint8
    assert changed(drawn, 5, 5)
    assert changed(drawn, 42, 22)
    assert not changed(drawn, 80, 100)
    # Halfway from the image to the class's colour.
    assert np.allclose(colour_at(drawn, 5, 5), (128 + np.array(metadata.stuff_colors[SKY])) / 2, atol=2)


def test_instances_below_the_threshold_are_not_drawn(image: np.ndarray, metadata: Metadata) -> None:
    output = instance_output(0.6)
    assert changed(draw_result(image, output, metadata, threshold=0.6 - 1e-6), 42, 22)
    assert not changed(draw_result(image, output, metadata, threshold=0.61), 42, 22)
    assert not changed(draw_result(image, output, metadata, threshold=0.5), 80, 100)


def test_semantic(image: np.ndarray, metadata: Metadata) -> None:
    drawn = draw_result(image, semantic_output(), metadata)
    for (y, x), number in {(42, 22): BALL, (80, 100): GRASS}.items():
        assert np.allclose(colour_at(drawn, y, x), (128 + np.array(metadata.stuff_colors[number])) / 2, atol=2)


@pytest.mark.parametrize(
    "output",
    [
        instance_output(),
        {"panoptic_seg": (torch.zeros(HEIGHT, WIDTH, dtype=torch.int32), [])},
    ],
    ids=["instance", "panoptic"],
)
def test_nothing_found(image: np.ndarray, metadata: Metadata, output: dict[str, Any]) -> None:
    assert np.all(draw_result(image, output, metadata) == 128)


def test_a_region_without_pixels_is_not_drawn(image: np.ndarray) -> None:
    region = Region(np.zeros((HEIGHT, WIDTH), bool), "ball", np.zeros(3, np.uint8), isthing=True)
    assert np.all(draw_regions(image, [region]) == 128)


def test_things_lie_over_stuff(image: np.ndarray) -> None:
    stuff = Region(np.ones((HEIGHT, WIDTH), bool), "sky", np.array([0, 0, 255], np.uint8), isthing=False)
    thing = Region(square(), "ball", np.array([255, 0, 0], np.uint8), isthing=True)
    for regions in ([stuff, thing], [thing, stuff]):
        red, _, blue = colour_at(draw_regions(image, regions), 42, 22)
        assert red > blue


def test_two_things_of_a_class_differ(image: np.ndarray, metadata: Metadata) -> None:
    left, right = np.zeros((2, HEIGHT, WIDTH), bool)
    left[30:90, 10:50], right[30:90, 60:120] = True, True
    drawn = draw_regions(image, [Region(m, "ball", np.array([200, 50, 50], np.uint8), True) for m in (left, right)])
    assert np.abs(colour_at(drawn, 35, 15) - colour_at(drawn, 35, 115)).max() > 10


def test_labels_are_written(image: np.ndarray) -> None:
    named, nameless = (
        draw_regions(image, [Region(square(), name, np.array([200, 50, 50], np.uint8), True, 0.93)])
        for name in ("mushroom", " ")
    )
    assert (named != nameless).any(axis=2).sum() > 500


def test_classes_without_names_and_colours(image: np.ndarray) -> None:
    assert changed(draw_result(image, panoptic_output(), Metadata()), 42, 22)


def test_choice_of_the_task(image: np.ndarray, metadata: Metadata) -> None:
    output = {**semantic_output(), **panoptic_output(), **instance_output(0.9)}
    assert np.array_equal(draw_result(image, output, metadata), draw_result(image, panoptic_output(), metadata)), (
        "panoptic is the first choice"
    )
    for task, alone in {"instance": instance_output(0.9), "semantic": semantic_output()}.items():
        chosen = draw_result(image, output, metadata, task=task)
        assert np.array_equal(chosen, draw_result(image, alone, metadata))
    with pytest.raises(ValueError, match=r"nothing to draw for instance.*sem_seg"):
        draw_result(image, semantic_output(), metadata, task="instance")


@pytest.fixture
def record(tmp_path: Path, image: np.ndarray) -> dict[str, Any]:
    """A data set dict with all three kinds of annotation: sky above, a ball below, the rest nothing."""
    ids = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    ids[:30, :, 2], ids[SQUARE] = 1, (0, 0, 2)  # OpenCV writes blue, green, red
    classes = np.full((HEIGHT, WIDTH), 255, np.uint8)
    classes[:30], classes[SQUARE] = SKY, BALL
    for name, array in {"image": image, "ids": ids, "classes": classes}.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), array)
    return {
        "file_name": str(tmp_path / "image.png"),
        "pan_seg_file_name": str(tmp_path / "ids.png"),
        "sem_seg_file_name": str(tmp_path / "classes.png"),
        "segments_info": [
            {"id": 1, "category_id": SKY, "isthing": False},
            {"id": 2, "category_id": BALL, "isthing": True},
        ],
        "annotations": [
            {"category_id": BALL, "segmentation": coco_mask.encode(np.asfortranarray(square(), dtype=np.uint8))}
        ],
    }


@pytest.mark.parametrize(
    ("task", "sky"), [("panoptic", True), ("instance", False), ("semantic", True)], ids=lambda value: str(value)
)
def test_ground_truth(record: dict[str, Any], metadata: Metadata, task: str, sky: bool) -> None:
    drawn = draw_ground_truth(record, metadata, task)
    assert changed(drawn, 42, 22)
    assert changed(drawn, 5, 5) == sky
    assert not changed(drawn, 80, 100)


def test_ground_truth_and_the_same_prediction_look_the_same(record: dict[str, Any], metadata: Metadata) -> None:
    image = cv2.imread(record["file_name"])
    assert np.array_equal(draw_ground_truth(record, metadata), draw_result(image, panoptic_output(), metadata))


def test_ground_truth_that_is_not_there(record: dict[str, Any], metadata: Metadata) -> None:
    del record["annotations"]
    with pytest.raises(ValueError, match=r"image\.png has nothing to draw for instance"):
        draw_ground_truth(record, metadata, "instance")


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
def test_ground_truth_of_unknown_classes(record: dict[str, Any], task: str) -> None:
    """Named by their numbers, as results of such classes are."""
    regions = annotation_regions(record, (HEIGHT, WIDTH), Metadata(), task)
    found = {region.name: int(region.mask.sum()) for region in regions if region.mask.any()}
    sky = {} if task == "instance" else {str(SKY): 30 * WIDTH}
    assert found == {str(BALL): int(square().sum()), **sky}


def test_side_by_side(image: np.ndarray) -> None:
    drawn = np.zeros((4 * HEIGHT, 4 * WIDTH, 3), np.uint8)
    two, three = side_by_side(image, None, drawn), side_by_side(image, drawn, drawn)
    panel = two.shape[1] // 2
    assert panel > 4 * WIDTH
    assert three.shape == (two.shape[0], 3 * panel, 3)
    assert np.array_equal(three[:, 2 * panel :], two[:, panel:])
    assert (two[:20] < 128).any(), "captions"


def test_contact_sheet() -> None:
    images = [np.full((20, 30, 3), value, np.uint8) for value in (10, 20, 30)]
    sheet = contact_sheet(images, columns=2)
    assert sheet.shape == (40, 60, 3)
    assert [sheet[y, x, 0] for y, x in ((0, 0), (0, 59), (39, 0), (39, 59))] == [10, 20, 30, 255]
    assert contact_sheet(images[:1], columns=5).shape == (20, 30, 3)
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])


def test_save_comparisons(record: dict[str, Any], metadata: Metadata, tmp_path: Path) -> None:
    output = {**panoptic_output(), **instance_output(0.9)}
    files = save_comparisons(((record, output) for _ in range(1)), metadata, tmp_path / "drawn" / "here")
    assert [file.name for file in files] == ["contact_sheet.png", "image.png"]
    comparison = cv2.imread(str(files[1]))
    assert comparison.shape[1] > 3 * 4 * WIDTH
    assert np.array_equal(cv2.imread(str(files[0])), comparison)
    assert save_comparisons([], metadata, tmp_path / "none") == []
    alone = save_comparisons([(record, output)], metadata, tmp_path / "alone", task="instance", sheet_rows=0)
    assert [file.name for file in alone] == ["image.png"]
    assert not np.array_equal(cv2.imread(str(alone[0])), comparison)


def test_comparisons_of_images_of_one_name(record: dict[str, Any], metadata: Metadata, tmp_path: Path) -> None:
    output = panoptic_output()
    other = {**record, "file_name": str(tmp_path / "b" / "image.jpg")}
    sheet = {**record, "file_name": str(tmp_path / "b" / "contact_sheet.png")}
    (tmp_path / "b").mkdir()
    for file in (other["file_name"], sheet["file_name"]):
        cv2.imwrite(file, np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    rows = [(one, output) for one in (record, other, sheet)]
    files = save_comparisons(rows, metadata, tmp_path / "drawn")
    assert [file.name for file in files] == [*("contact_sheet.png", "image.png", "image_2.png", "contact_sheet_2.png")]
    light, dark = (cv2.imread(str(file)) for file in files[1:3])
    assert light.mean() > dark.mean()
    assert save_comparisons(rows, metadata, tmp_path / "drawn", sheet_rows=0)[0].name == "image.png", "written anew"


def ball(mask: np.ndarray, name: str = "ball") -> Region:
    return Region(mask, name, np.array([200, 50, 50], np.uint8), isthing=True)


def test_modes(image: np.ndarray) -> None:
    """At the square's middle and far from it: painted or not, and over what."""
    middle, outside = (50, 35), (80, 100)
    drawn = {mode: draw_regions(image, [ball(square())], mode, names=False) for mode in MODES}
    assert np.allclose(colour_at(drawn["overlay"], *middle), (164, 89, 89), atol=1)
    assert colour_at(drawn["masks"], *middle).tolist() == [200, 50, 50]
    assert not colour_at(drawn["masks"], *outside).any()
    for mode in ("contours", "boxes"):
        assert not changed(drawn[mode], *middle)
        assert changed(drawn[mode], 45, 20), "the left edge"
    assert not any(changed(drawn[mode], *outside) for mode in ("overlay", "contours", "boxes"))
    with pytest.raises(ValueError, match="choose one of overlay"):
        draw_regions(image, [], "filled")


@pytest.mark.parametrize("side", [100, 3000])
def test_a_thin_object_shows_its_colour(side: int) -> None:
    mask = np.zeros((side, side), bool)
    mask[:, side // 2] = True
    drawn = draw_regions(np.full((side, side, 3), 128, np.uint8), [ball(mask)], names=False)
    seen = (np.abs(drawn.astype(int) - (200, 50, 50)).max(axis=2) < 40).sum(axis=1)
    assert (seen >= max(1, drawn.shape[0] // 500)).mean() > 0.95


def test_labels_keep_clear_of_one_another() -> None:
    """Of many objects side by side, some get none, and no label lies on another."""
    canvas = np.zeros((400, 400, 3), np.uint8)
    greys = range(100, 220, 2)
    labels = [
        Label("name", (5 * i, 200), (5 * i, 195, 5 * i + 4, 205), np.full(3, grey)) for i, grey in enumerate(greys)
    ]
    written = write_labels(canvas, labels)
    assert 0.02 < (written > 0).any(axis=2).mean() < 0.11
    areas = np.array([(written == round(0.8 * grey)).all(axis=2).sum() for grey in greys])
    shown = areas[areas > 50]
    assert 8 < len(shown) < len(labels)
    assert shown.min() > 0.7 * shown.max(), "each has its place whole"


def test_letters_grow_with_the_image() -> None:
    sizes = [letter_size(np.zeros((side, side, 3), np.uint8)) for side in (100, 480, 2000)]
    assert sizes == sorted(sizes)
    assert sizes[0] >= 11
    assert sizes[2] > 2 * sizes[1]


def test_legend(image: np.ndarray) -> None:
    one = add_legend(image, [ball(square())])
    assert one.shape[1] == WIDTH
    assert np.array_equal(one[:HEIGHT], image)
    assert (one[HEIGHT:] == (200, 50, 50)).all(axis=2).any(), "the colour of the class"
    many = add_legend(image, [ball(square(), f"a long name {number}") for number in range(9)])
    assert many.shape[0] > one.shape[0], "as many lines as it takes"
    assert add_legend(image, []) is image


def test_a_line_of_pixels_is_not_enlarged_beyond_reason() -> None:
    assert enlargement(np.zeros((1, 300, 3), np.uint8)) == 13
    assert enlargement(np.zeros((1, 9000, 3), np.uint8)) == 1
    assert enlargement(np.zeros((64, 96, 3), np.uint8)) == 6
