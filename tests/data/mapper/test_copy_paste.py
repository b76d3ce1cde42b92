"""Copy-paste and the mappers of the MaX-DeepLabs, on images of one colour and flat segments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from PIL import Image

from mask2former.data.loader import build_train_loader
from mask2former.data.mapper import Mapper
from mask2former.data.mapper.bad_images import BadImages

NAME = "copy_paste_test"
THING, STUFF, OTHER_STUFF = 0, 1, 2
COLOURS = {"plain": 200, "donor": 50}


@pytest.fixture(autouse=True)
def metadata() -> Iterator[None]:
    MetadataCatalog.get(NAME).set(thing_dataset_id_to_contiguous_id={1: THING})
    yield
    MetadataCatalog.remove(NAME)


@pytest.fixture
def records(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Two images of 64 x 64. plain: stuff all over; donor: a thing, stuff beside it, a crowd, an unlabelled rest."""
    made = {}
    for number, (name, colour) in enumerate(COLOURS.items()):
        Image.fromarray(np.full((64, 64, 3), colour, np.uint8)).save(tmp_path / f"{name}.png")
        ids = np.zeros((64, 64, 3), np.uint8)
        if name == "plain":
            ids[:, :, 0] = 1
            segments = [{"id": 1, "category_id": STUFF}]
        else:
            ids[:32, :32, 0], ids[:32, 32:, 0], ids[32:, :32, 0] = 1, 2, 3
            segments = [{"id": i + 1, "category_id": k} for i, k in enumerate((THING, STUFF, THING))]
            segments[2]["iscrowd"] = 1
        Image.fromarray(ids).save(tmp_path / f"{name}_ids.png")
        made[name] = {
            "file_name": str(tmp_path / f"{name}.png"),
            "pan_seg_file_name": str(tmp_path / f"{name}_ids.png"),
            "segments_info": segments,
            "image_id": number,
            "width": 64,
            "height": 64,
        }
    return made


@pytest.fixture
def configuration(mapper_cfg: Callable[..., CfgNode]) -> Callable[..., CfgNode]:
    def build(preset: str, **inputs: Any) -> CfgNode:
        cfg = mapper_cfg(preset, 3, **{"IMAGE_SIZE": 65, "CANVAS": [65, 65], **inputs})
        cfg.DATASETS.TRAIN = (NAME,)
        return cfg

    return build


def seeded(seed: int) -> None:
    np.random.seed(seed)


def ids_of(result: dict[str, Any]) -> torch.Tensor:
    """Class + 1 of each pixel; asserts that no pixel is in two masks."""
    masks = result["instances"].gt_masks.tensor
    assert masks.sum(0).max() <= 1 and masks.flatten(1).any(1).all()
    return (masks * (result["instances"].gt_classes + 1)[:, None, None]).sum(0)


def test_things_are_pasted_with_their_pixels(records: dict, configuration: Callable) -> None:
    """Onto a canvas of 64 x 64 without changes of size or colour."""
    cfg = configuration("coco_panoptic_lsj", IMAGE_SIZE=64)
    cfg.INPUT.COPY_PASTE.ENABLED, cfg.INPUT.COPY_PASTE.SCALE = True, 1.0
    mapper = Mapper(cfg, True).with_donors([records["donor"]])
    pasted_stuff = set()
    for seed in range(12):
        seeded(seed)
        result = mapper(records["plain"])
        assert result["file_name"] == records["plain"]["file_name"] and "is_real_pixels" not in result
        classes = ids_of(result)
        assert (classes[:32, :32] == THING + 1).all()
        rest = classes.clone()
        rest[:32, :32] = STUFF + 1
        assert (rest == STUFF + 1).all()
        assert result["instances"].gt_classes.tolist().count(STUFF) == 1  # joined with the donor's
        image = result["image"]
        assert (image[:, :32, :32] == 50).all() and (image[:, 32:] == 200).all()
        right = set(image[:, :32, 32:].unique().tolist())
        assert len(right) == 1
        pasted_stuff |= right
    assert pasted_stuff == {50, 200}  # stuff at random


def test_a_donor_is_half_as_large(records: dict, configuration: Callable) -> None:
    cfg = configuration("coco_panoptic_lsj", IMAGE_SIZE=64)
    cfg.INPUT.COPY_PASTE.ENABLED = True
    result = Mapper(cfg, True).with_donors([records["donor"]])(records["plain"])
    thing = ids_of(result) == THING + 1
    assert thing[:16, :16].all() and thing.sum() == 256


def test_instances_take_those_of_any_class(records: dict, configuration: Callable) -> None:
    """Also with the other augmentation, whose images have a size of their own."""
    square = {"category_id": 2, "iscrowd": 0, "segmentation": [[0, 0, 20, 0, 20, 20, 0, 20]]}
    whole = {"category_id": 1, "iscrowd": 0, "segmentation": [[0, 0, 64, 0, 64, 64, 0, 64]]}
    plain, donor = records["plain"] | {"annotations": [whole]}, records["donor"] | {"annotations": [square]}
    cfg = configuration("mask_former_instance", MIN_SIZE_TRAIN=(64,))
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = True, "absolute", [48, 40]
    cfg.INPUT.COPY_PASTE.ENABLED = True
    result = Mapper(cfg, True).with_donors([donor])(plain)
    classes = ids_of(result)
    assert classes.shape == (48, 40)
    assert (classes[:10, :10] == 3).all() and (classes == 3).sum() == 100 and (classes == 2).sum() == 48 * 40 - 100
    assert (result["image"][:, :10, :10] == 50).all() and (result["image"][:, 10:] == 200).all()


def test_some_images_are_left_as_they_are(records: dict, configuration: Callable) -> None:
    cfg = configuration("coco_panoptic_lsj", IMAGE_SIZE=64)
    cfg.INPUT.COPY_PASTE.ENABLED, cfg.INPUT.COPY_PASTE.PROBABILITY = True, 0.5
    mapper = Mapper(cfg, True).with_donors([records["donor"]])
    seeded(0)
    numbers = [len(mapper(records["plain"])["instances"]) for _ in range(60)]
    assert 15 < numbers.count(1) < 45 and set(numbers) == {1, 2}


@pytest.mark.parametrize("canvas", [(65, 65), (65, 129)], ids=str)
def test_images_fill_the_canvas_of_kmax_in_part(canvas: tuple, records: dict, configuration: Callable) -> None:
    cfg = configuration("kmax_panoptic", CANVAS=list(canvas), MIN_SCALE=0.6, MAX_SCALE=2.0, RANDOM_FLIP="horizontal")
    mapper = Mapper(cfg, True).with_donors([records["donor"]])
    padded = 0
    for seed in range(15):
        seeded(seed)
        result = mapper(records["plain"])
        assert result["image"].shape == (3, *canvas) and result["image"].dtype == torch.uint8
        real = result["is_real_pixels"]
        assert real.dtype == torch.bool and real.shape == canvas
        assert torch.equal(ids_of(result) > 0, real)  # everything of both is labelled but what is not pasted
        assert "is_sparse" not in result
        padded += not real.all()
    assert padded > 3


def test_another_image_takes_the_place_of_one_with_few_labels(records: dict, configuration: Callable) -> None:
    """The number is 4096 of 1281 x 1281 on the grid of stride 4: 10.5 of 65 x 65."""
    empty = records["plain"] | {"segments_info": [{"id": 1, "category_id": 0, "iscrowd": 1}], "image_id": 9}
    cfg = configuration("kmax_panoptic")
    mapper = Mapper(cfg, True).with_donors([records["plain"], empty])
    seeded(0)
    results = [mapper(empty) for _ in range(12)]
    cells = [int((ids_of(result)[::4, ::4] > 0).sum()) for result in results]
    assert min(cells) > 4096 / 1281**2 * 65**2
    # Those that stayed got stuff of the other image, which is all over it.
    assert {result["image_id"] for result in results} == {0, 9}
    with pytest.raises(ValueError, match=r"100 images in a row had too few labelled pixels.*png"):
        Mapper(cfg, True).with_donors([empty])(empty)


def test_a_donor_that_cannot_be_read(records: dict, configuration: Callable, tmp_path: Path) -> None:
    missing = records["donor"] | {"file_name": str(tmp_path / "missing.png")}
    cfg = configuration("kmax_panoptic")
    with pytest.raises(FileNotFoundError, match=r"missing\.png"):
        Mapper(cfg, True).with_donors([missing])(records["plain"])
    cfg.DATALOADER.ON_BAD_IMAGE, cfg.OUTPUT_DIR = "skip", str(tmp_path / "out")
    mapper = Mapper(cfg, True).with_donors([missing, records["donor"]])
    seeded(0)
    for _ in range(6):
        assert THING in mapper(records["plain"])["instances"].gt_classes
    assert list(BadImages.of(cfg.OUTPUT_DIR).since(0)) == [missing["file_name"]]


def test_max_deeplab_marks_void_and_crowds(records: dict, configuration: Callable) -> None:
    """Half as large, at any place of the canvas."""
    cfg = configuration("max_deeplab_panoptic", MIN_SCALE=0.5, MAX_SCALE=0.5)
    cfg.INPUT.CANVAS = [129, 129]
    mapper, corners = Mapper(cfg, True), set()
    for seed in range(8):
        seeded(seed)
        result = mapper(records["donor"])
        rows, columns = result["is_real_pixels"].nonzero(as_tuple=True)
        top, left = int(rows.min()), int(columns.min())
        side = int(rows.max()) + 1 - top
        assert side == int(columns.max()) + 1 - left and side in (64, 65) and len(rows) == side**2
        corners.add((top, left))
        semantic = result["semantic"][top : top + side, left : left + side]
        assert semantic[:31, :31].eq(THING).all() and semantic[:31, 34:].eq(STUFF).all()
        assert semantic[34:, :31].eq(THING).all()  # the crowd
        assert semantic[34:, 34:].eq(-1).all()
        assert torch.equal(result["void"], result["semantic"] < 0) and result["void"][~result["is_real_pixels"]].all()
        masks = result["instances"].gt_masks.tensor
        assert result["instances"].gt_classes.tolist() == [THING, STUFF]
        assert not masks[:, top + 34 : top + side].any()
    assert len(corners) > 3


def test_scales_of_max_deeplab(records: dict, configuration: Callable) -> None:
    cfg = configuration("max_deeplab_panoptic", MIN_SCALE=0.5, MAX_SCALE=1.5)
    cfg.INPUT.CANVAS = [201, 201]
    mapper = Mapper(cfg, True)
    seeded(0)
    sides = {int(mapper(records["plain"])["is_real_pixels"].sum()) ** 0.5 for _ in range(60)}
    scales = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert sorted(sides) == pytest.approx([min(201, 201 * scale) for scale in scales], abs=1)


def test_smaller_images_at_first(records: dict, configuration: Callable) -> None:
    """The donor too; canvases stay multiples of 32 plus 1."""
    cfg = configuration("kmax_panoptic")
    cfg.INPUT.PROGRESSIVE.ENABLED, cfg.INPUT.PROGRESSIVE.SIZES, cfg.INPUT.PROGRESSIVE.SHARES = (
        True,
        [0.5, 1.0],
        [0.5, 0.5],
    )
    mapper = Mapper(cfg, True).with_donors([records["donor"]]).at_size(0.5)
    result = mapper(records["plain"])
    thing = ids_of(result) == THING + 1
    assert result["image"].shape == (3, 33, 33) and thing[:8, :8].all() and thing.sum() < 81


def test_what_cannot_be_is_refused(configuration: Callable, records: dict) -> None:
    for preset in ("mask_former_semantic", "max_deeplab_panoptic"):
        cfg = configuration(preset)
        cfg.INPUT.COPY_PASTE.ENABLED = True
        with pytest.raises(ValueError, match=f"COPY_PASTE is for panoptic and instance data, not for {preset}"):
            Mapper(cfg, True)
    cfg = configuration("kmax_panoptic")
    with pytest.raises(ValueError, match="with_donors"):
        Mapper(cfg, True)(records["plain"])
    cfg.DATASETS.TRAIN = ("copy_paste_unknown",)
    with pytest.raises(ValueError, match=r"which classes are things.*copy_paste_unknown"):
        Mapper(cfg, True)
    MetadataCatalog.remove("copy_paste_unknown")


def test_images_do_not_depend_on_workers_or_on_the_start(records: dict, configuration: Callable) -> None:
    cfg = configuration("kmax_panoptic", MIN_SCALE=0.5, MAX_SCALE=2.0, RANDOM_FLIP="horizontal")
    cfg.SEED, cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.ASPECT_RATIO_GROUPING = 3, 2, False
    found = {}
    for workers, start in ((0, 0), (2, 0), (0, 2)):
        cfg.DATALOADER.NUM_WORKERS = workers
        loader = build_train_loader(cfg, Mapper(cfg, True), dataset=list(records.values()))
        loader.start = start
        batches = iter(loader)
        found[workers, start] = [next(batches) for _ in range(4 - start)]
        loader.close()

    def same(one: list, other: list) -> bool:
        pairs = [(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)]
        return all(
            torch.equal(a["image"], b["image"])
            and torch.equal(a["is_real_pixels"], b["is_real_pixels"])
            and torch.equal(a["instances"].gt_masks.tensor, b["instances"].gt_masks.tensor)
            for a, b in pairs
        )

    assert same(found[0, 0], found[2, 0]) and same(found[0, 0][2:], found[0, 2])
    images = [one["image"] for batch in found[0, 0] for one in batch]
    assert not any(torch.equal(a, b) for n, a in enumerate(images) for b in images[:n])
