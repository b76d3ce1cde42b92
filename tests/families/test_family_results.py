"""Whatever the family: results of every kind, from views, tiles, a folder's predictor and its drawings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.structures import Instances
from PIL import Image
from small_families import CLASSES, FAMILIES, Family, image, network
from torch import Tensor

from mask2former import Predictor
from mask2former.data import register_all
from mask2former.data.datasets.metadata_file import write_metadata
from mask2former.evaluation.tta import SegmentorWithTTA
from mask2former.tiling import TiledInference

SIZE = (72, 100)
ALL = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


@pytest.fixture(autouse=True)
def _registered(tmp_path: Path) -> None:
    register_all(str(tmp_path))


def assert_sound(result: dict[str, object], family: Family, size: tuple[int, int]) -> None:
    """Assert that a result has the kinds of the family, at the size, and that its parts agree."""
    assert set(result) == set(family.results)
    scores = result["sem_seg"]
    assert isinstance(scores, Tensor) and scores.shape == (CLASSES, *size) and torch.isfinite(scores).all()
    if "panoptic_seg" in result:
        labels, segments = result["panoptic_seg"]
        assert segments and labels.shape == size
        assert {one["id"] for one in segments} == set(labels.unique().tolist()) - {0}
    if "instances" in result:
        found = result["instances"]
        assert isinstance(found, Instances) and len(found) and found.pred_masks.shape[1:] == size
        assert ((found.scores >= 0) & (found.scores <= 1)).all() and found.scores.any()


@ALL
@torch.no_grad()
def test_results_of_every_kind(family: Family) -> None:
    """Of another size than the image's; images of a batch do not see each other."""
    model = network(family).eval()
    inputs = [{"image": image(*SIZE), "height": 90, "width": 125}, {"image": image(50, 41)}]
    together = model(inputs)
    for one, result, size in zip(inputs, together, ((90, 125), (50, 41)), strict=True):
        assert_sound(result, family, size)
        (alone,) = model([one])
        if one is inputs[0]:  # the other is padded to the first one's size
            torch.testing.assert_close(alone["sem_seg"], result["sem_seg"], rtol=1e-3, atol=1e-4)


@ALL
@torch.no_grad()
def test_views_are_averaged(family: Family) -> None:
    model = network(family).eval()
    tta = SegmentorWithTTA(model, min_sizes=[64, 96], max_size=200, flip=True, image_format="RGB")
    inputs = {"image": image(*SIZE), "height": SIZE[0], "width": SIZE[1]}
    (found,) = tta([inputs])
    assert_sound(found, family, SIZE)
    views = []
    for view in (T.get_transform(tta_image(inputs["image"])) for T in tta.resizes):
        pixels = torch.from_numpy(view.apply_image(tta_image(inputs["image"])).transpose(2, 0, 1).copy())
        for mirrored in (False, True):
            seen = pixels.flip(-1) if mirrored else pixels
            scores = model([{**inputs, "image": seen}])[0]["sem_seg"]
            views.append(scores.flip(-1) if mirrored else scores)
    torch.testing.assert_close(found["sem_seg"], torch.stack(views).mean(0), rtol=1e-3, atol=1e-4)


def tta_image(pixels: Tensor) -> np.ndarray:
    return pixels.numpy().transpose(1, 2, 0)


@ALL
@torch.no_grad()
def test_tiles_are_joined(family: Family) -> None:
    """Pixels are decided by the tile in whose core they lie; one tile is the model itself."""
    model = network(family).eval()
    pixels = image(64, 112)
    (joined,) = TiledInference(model, 64, 16)([{"image": pixels}])
    assert_sound(joined, family, (64, 112))
    left, right = (model([{"image": part}])[0]["sem_seg"] for part in (pixels[..., :64], pixels[..., 48:]))
    expected = torch.cat([left[..., :56], right[..., 8:]], -1)
    torch.testing.assert_close(joined["sem_seg"], expected)
    (whole,), (same,) = model([{"image": pixels}]), TiledInference(model, 128, 16)([{"image": pixels}])
    assert torch.equal(whole["sem_seg"], same["sem_seg"])


@ALL
def test_a_folder_predicts_and_draws(family: Family, tmp_path: Path) -> None:
    cfg = family.configuration()
    model = network(family).eval()
    (tmp_path / "config.yaml").write_text(cfg.dump())
    write_metadata(cfg.DATASETS.TEST[0], tmp_path / "metadata.json")
    torch.save({"model": model.state_dict()}, tmp_path / "model_final.pth")
    pixels = tta_image(image(*SIZE))
    predictor = Predictor(tmp_path, threshold=0.001)
    names = {"sem_seg": "semantic", "panoptic_seg": "panoptic", "instances": "instance"}
    assert set(predictor.tasks) == {names[kind] for kind in family.results}
    result = predictor(pixels)
    (expected,) = model([{"image": torch.from_numpy(pixels.transpose(2, 0, 1).copy())}])
    assert np.array_equal(result.semantic, expected["sem_seg"].argmax(0).numpy())
    for task in predictor.tasks:
        assert result.regions(task)
        file = result.save(tmp_path / f"{task}.png", task)
        drawn = np.array(Image.open(file).convert("RGB"))
        times = len(drawn) // len(pixels)  # small images are enlarged
        assert drawn.shape == (SIZE[0] * times, SIZE[1] * times, 3)
        assert not np.array_equal(drawn[::times, ::times], pixels)
