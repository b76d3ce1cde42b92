"""The mask encoder: nothing without a mask, nothing at the beginning, and then the marked object."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.structures import Instances
from small_models import configuration
from torch import Tensor, nn

from mask2former.modeling.mask_encoder import MaskEncoder, make_guide

SHAPES = {
    "b": ShapeSpec(channels=6, stride=8),
    "a": ShapeSpec(channels=4, stride=4),
    "c": ShapeSpec(channels=8, stride=32),
}


def features(height: int, width: int) -> dict[str, Tensor]:
    sizes = {name: (-(-height // s.stride), -(-width // s.stride)) for name, s in SHAPES.items()}
    return {name: torch.randn(2, SHAPES[name].channels, *size) for name, size in sizes.items()}


def trained(encoder: MaskEncoder) -> MaskEncoder:
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    return encoder


@pytest.mark.parametrize("size", [(64, 96), (50, 75)])
def test_it_adds_nothing_at_first_and_without_a_mask(size: tuple[int, int]) -> None:
    encoder, given = MaskEncoder(SHAPES, channels=5), features(*size)
    guide = torch.rand(2, 2, *size)
    for name, value in encoder(given, guide).items():
        assert torch.equal(value, given[name])
    trained(encoder)
    for name, value in encoder(given, torch.zeros(2, 2, *size)).items():
        assert torch.equal(value, given[name])
    for name, value in encoder(given, guide).items():
        assert value.shape == given[name].shape and (value - given[name]).abs().mean() > 1e-3


def test_it_sees_the_place_of_the_mask() -> None:
    """Features far from a change of the mask stay; those at its place do not."""
    encoder, given = trained(MaskEncoder(SHAPES, channels=5)), features(256, 256)
    guide = torch.zeros(2, 2, 256, 256)
    before = encoder(given, guide)
    guide[:, 0, 32:40, 200:208] = 1
    after = encoder(given, guide)
    for name, (y, x) in {"a": (9, 51), "b": (4, 25), "c": (1, 6)}.items():
        changed = (after[name] - before[name]).abs().sum(1)
        assert (changed[:, y, x] > 0).all() and not changed[:, :, 0].any() and not changed[:, -1].any()


def test_strides_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of each other; b has 6 after 4"):
        MaskEncoder({"a": ShapeSpec(channels=4, stride=4), "b": ShapeSpec(channels=4, stride=6)}, channels=5)


def test_guide() -> None:
    mask = torch.tensor([[0, 3], [255, 0]], dtype=torch.uint8)
    guide = make_guide([mask, None], [(2, 2), (3, 2)], (3, 4), torch.device("cpu"))
    assert guide[0, 0].tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert guide[0, 1].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert not guide[1].any()


def build(enabled: bool) -> Any:
    cfg = configuration()
    cfg.MODEL.MASK_ENCODER.ENABLED = enabled
    torch.manual_seed(0)
    return build_model(cfg)


@pytest.fixture
def image() -> Tensor:
    return torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def marked(rows: slice, columns: slice) -> Tensor:
    mask = torch.zeros(64, 96, dtype=torch.bool)
    mask[rows, columns] = True
    return mask


@torch.no_grad()
def test_the_model_takes_masks_if_it_has_an_encoder(image: Tensor) -> None:
    model = build(True).eval()
    plain = build(False).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    trained(model.mask_encoder)
    two = [{"image": image}, {"image": image, "mask": marked(slice(8, 30), slice(0, 40))}]
    for one, other in zip(model(two), plain([{"image": image}] * 2), strict=True):
        difference = (one["sem_seg"] - other["sem_seg"]).abs().max()
        assert (difference > 1e-4) == ("mask" in two.pop(0))
    # Without an encoder it is a region of interest.
    scores = plain([{"image": image, "mask": marked(slice(8, 30), slice(0, 40))}])[0]["sem_seg"]
    assert scores.shape == (7, 64, 96) and not scores[:, 30:].any() and scores[:, 8:30, :40].all()


def test_it_learns_which_object_is_meant() -> None:
    """Two equal squares: the mask alone says which of them is wanted."""
    model = build(True).train()
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    batch = []
    for place in (slice(8, 24), slice(40, 56)):
        mask = torch.zeros(64, 64, dtype=torch.bool)
        mask[place, place] = True
        image[:, place, place] = 255
        target = Instances((64, 64))
        target.gt_masks, target.gt_classes = mask[None], torch.tensor([2])
        batch.append({"image": image, "mask": mask, "instances": target})
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(60):
        torch.manual_seed(step)
        optimizer.zero_grad()
        sum(model(batch).values()).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        for one, (class_logits, masks) in zip(batch, model.predict(batch), strict=True):
            best = (1 - class_logits.softmax(-1)[:, -1]).argmax()
            found, truth = masks(best[None])[0] > 0, one["instances"].gt_masks[0]
            assert (found & truth).sum() / (found | truth).sum() > 0.7


def test_every_parameter_takes_part_without_a_mask(image: Tensor) -> None:
    """Hold what processes that train together need."""
    model = build(True).train()
    target = Instances((64, 96))
    target.gt_masks, target.gt_classes = marked(slice(8, 30), slice(0, 40))[None], torch.tensor([2])
    sum(model([{"image": image, "instances": target}]).values()).backward()
    assert all(parameter.grad is not None for parameter in model.mask_encoder.parameters())
    assert not any(parameter.grad.any() for parameter in model.mask_encoder.parameters())


def test_a_clip_with_a_mask_is_refused(image: Tensor) -> None:
    with pytest.raises(ValueError, match="clip"):
        build(True).eval()([{"image": [image, image], "mask": marked(slice(3), slice(3))}])
    assert len(build(True).eval()([{"image": [image, image]}])[0]["frames"]) == 2
