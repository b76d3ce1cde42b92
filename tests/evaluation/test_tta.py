"""Test-time augmentation: nothing to augment is the plain model; versions are averaged as they should be."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import DatasetMapperTTA
from PIL import Image
from torch import nn
from torch.nn import functional as F

from mask2former.evaluation.tta import SegmentorWithTTA, View, average, match
from mask2former.modeling.meta_arch import MaskFormer
from mask2former.modeling.postprocess import PostProcessing, ResizedMasks
from mask2former.structures import FactoredMasks, MaskPrediction

QUERIES, CLASSES = 6, 4


class Head(nn.Module):
    """Masks are linear in the pixels, at a quarter of their size. With ``slant`` they also depend on the column."""

    def __init__(self, slant):
        super().__init__()
        self.slant = slant
        generator = torch.Generator().manual_seed(3)
        self.embed = torch.randn(1, QUERIES, 4, generator=generator)
        self.logits = 2 * torch.randn(1, QUERIES, CLASSES + 1, generator=generator)

    def forward(self, images, num_frames):
        features = F.avg_pool2d(images, 4)
        column = torch.linspace(-1, 1, features.shape[-1]).expand_as(features[:, :1]) * self.slant
        features = torch.cat([features, column], 1)[:, :, None]
        count = len(images)
        return MaskPrediction(
            self.logits.expand(count, -1, -1), FactoredMasks(self.embed.expand(count, -1, -1), features)
        )


def model(slant=0.0, **switches):
    on = {"semantic_on": True, "panoptic_on": True, "instance_on": True, **switches}
    return MaskFormer(
        backbone=nn.Identity(),
        sem_seg_head=Head(slant),
        criterion=nn.Identity(),
        pixel_mean=[127.5] * 3,
        pixel_std=[40.0] * 3,
        size_divisibility=8,
        post_processing=PostProcessing(
            things=frozenset([0, 2]),
            object_mask_threshold=0.2,
            overlap_threshold=0.3,
            resize_before_semantic=on["panoptic_on"] or on["instance_on"],
            detections_per_image=5,
            **on,
        ),
    ).eval()


def random_image(height, width):
    """Large flat patches, so that masks are neither noise nor everything."""
    coarse = torch.randint(0, 256, (1, 3, height // 16, width // 16)).float()
    return F.interpolate(coarse, (height, width), mode="bilinear")[0].to(torch.uint8)


def with_tta(plain, min_sizes=(), flip=False, max_size=400):
    return SegmentorWithTTA(plain, min_sizes=min_sizes, max_size=max_size, flip=flip, image_format="RGB")


def assert_same(found, expected, tolerance):
    assert set(found) == set(expected) == {"sem_seg", "panoptic_seg", "instances"}
    torch.testing.assert_close(found["sem_seg"], expected["sem_seg"], rtol=0, atol=tolerance)
    assert found["panoptic_seg"][1] == expected["panoptic_seg"][1] != []
    differing = (found["panoptic_seg"][0] != expected["panoptic_seg"][0]).float().mean()
    assert differing <= (0 if tolerance == 0 else 0.002)  # rounding may turn single pixels
    a, b = found["instances"], expected["instances"]
    order, other = a.scores.argsort(), b.scores.argsort()
    torch.testing.assert_close(a.scores[order], b.scores[other], rtol=0, atol=10 * tolerance)
    assert torch.equal(a.pred_classes[order], b.pred_classes[other])
    assert (a.pred_masks[order] != b.pred_masks[other]).float().mean() <= (0 if tolerance == 0 else 0.002)


INPUTS = [(96, 128, 150, 200), (90, 71, 90, 71)]


@pytest.mark.parametrize(("height", "width", "out_height", "out_width"), INPUTS)
def test_without_augmentation_it_is_the_plain_model(height, width, out_height, out_width):
    inputs = [{"image": random_image(height, width), "height": out_height, "width": out_width} for _ in range(2)]
    plain = model(slant=1.0)
    for found, expected in zip(with_tta(plain)(inputs), plain(inputs), strict=True):
        assert_same(found, expected, tolerance=0)


def test_mirroring_changes_nothing_for_a_network_that_cannot_tell_left_from_right():
    inputs = [{"image": random_image(96, 128), "height": 144, "width": 192}]
    plain = model()
    assert_same(with_tta(plain, flip=True)(inputs)[0], plain(inputs)[0], tolerance=1e-5)


def test_a_symmetric_image_gets_a_symmetric_result_from_a_network_that_can():
    half = random_image(96, 64)
    inputs = [{"image": torch.cat([half, half.flip(-1)], -1)}]
    plain = model(slant=2.0)
    found, once = (m(inputs)[0]["sem_seg"] for m in (with_tta(plain, flip=True), plain))
    torch.testing.assert_close(found, found.flip(-1), rtol=0, atol=1e-6)
    assert (once - once.flip(-1)).abs().max() > 0.1


def test_semantic_scores_are_the_mean_over_detectron2s_versions():
    """As published: each version's scores, mirrored back, and their mean."""
    cfg = get_cfg()
    cfg.TEST.AUG.MIN_SIZES, cfg.TEST.AUG.MAX_SIZE, cfg.TEST.AUG.FLIP = [48, 80, 112], 140, True
    cfg.INPUT.FORMAT = "RGB"
    inputs = {"image": random_image(90, 120), "height": 100, "width": 133, "file_name": "none.png"}
    plain = model(slant=1.0, panoptic_on=False, instance_on=False)
    expected = []
    for number, version in enumerate(DatasetMapperTTA(cfg)(inputs)):
        score = plain([version])[0]["sem_seg"]
        expected.append(score.flip(-1) if number % 2 else score)
    assert len(expected) == 6
    found = SegmentorWithTTA(cfg, plain)([inputs])[0]
    assert set(found) == {"sem_seg"}
    torch.testing.assert_close(found["sem_seg"], torch.stack(expected).mean(0), rtol=0, atol=1e-6)


def test_any_model_with_semantic_results_will_do():
    class Other(nn.Module):
        def forward(self, inputs):
            return [{"sem_seg": x["image"].float()} for x in inputs]

    image = random_image(32, 48)
    found = with_tta(Other(), flip=True)([{"image": image}])[0]
    torch.testing.assert_close(found["sem_seg"], image.float())


@pytest.mark.parametrize(("height", "width"), [(1, 600), (600, 1)])
def test_thin_images_keep_a_pixel(height, width):
    inputs = {"image": torch.randint(0, 256, (3, height, width), dtype=torch.uint8), "height": height, "width": width}
    (result,) = with_tta(model(), min_sizes=(64, 96), flip=True)([inputs])
    assert result["sem_seg"].shape == (CLASSES, height, width) and result["sem_seg"].isfinite().all()
    assert result["panoptic_seg"][0].shape == (height, width)


def test_the_published_name_lies_where_it_was():
    from mask2former import SemanticSegmentorWithTTA

    assert SemanticSegmentorWithTTA is SegmentorWithTTA
    with pytest.raises(ImportError, match="cannot import name 'SemanticSegmentor'"):
        from mask2former import SemanticSegmentor  # noqa: F401


def test_a_model_without_them_is_refused():
    class Boxes(nn.Module):
        def forward(self, inputs):
            return [{"instances": None} for _ in inputs]

    with pytest.raises(TypeError, match="Boxes neither predicts masks nor gives `sem_seg`"):
        with_tta(Boxes())([{"image": random_image(32, 32)}])


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_an_image_that_has_to_be_read(tmp_path, image_format):
    pixels = random_image(64, 80)
    path = str(tmp_path / "image.png")
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)
    plain = model()
    tta = SegmentorWithTTA(plain, min_sizes=[], max_size=400, flip=False, image_format=image_format)
    channels = pixels if image_format == "RGB" else pixels.flip(0)
    assert_same(tta([{"file_name": path}])[0], plain([{"image": channels}])[0], tolerance=0)


def view(masks, classes, mirrored=False):
    """Of binary masks [Q, H, W] and class logits, as a network could give them."""
    logits = (masks.float() * 20 - 10)[None, :, None]
    count = len(masks)
    lazy = FactoredMasks(torch.eye(count)[None], logits)
    size = tuple(masks.shape[-2:])
    return View(classes, ResizedMasks(lazy, 0, size, size, size), mirrored)


def scene():
    masks = torch.zeros(3, 32, 48, dtype=torch.bool)
    masks[0, :16, :20], masks[1, 18:30, 5:40], masks[2, 2:12, 30:46] = True, True, True
    return masks, torch.tensor([[4.0, 0, 0], [0, 3.0, 0], [3.0, 1, 0]])


def test_queries_of_another_order_and_mirrored_ones_find_their_partners():
    masks, classes = scene()
    order = torch.tensor([2, 0, 1])
    other = view(masks[order].flip(-1), classes[order] + 5, mirrored=True)
    logits, averaged = average([view(masks, classes), other])
    assert averaged.partners.tolist() == [[0, 1, 2], [1, 2, 0]]
    torch.testing.assert_close(logits.softmax(-1), classes.softmax(-1))
    assert torch.equal(averaged(torch.tensor([2, 0])) > 0, masks[[2, 0]])


def test_what_one_version_does_not_see_is_left_as_it_is():
    masks, classes = scene()
    blind = masks.clone()
    blind[1] = False
    blind[1, :3, :3] = True  # something else
    unsure = classes.clone()
    unsure[0], unsure[1] = torch.zeros(3), torch.tensor([0.0, 0, 9])
    logits, averaged = average([view(masks, classes), view(blind, unsure)])
    assert averaged.partners[1].tolist() == [0, -1, 2]
    found, expected = logits.softmax(-1), classes.softmax(-1)
    torch.testing.assert_close(found[1:], expected[1:])
    torch.testing.assert_close(found[0], (expected[0] + 1 / 3) / 2)
    assert torch.equal(averaged(torch.arange(3)) > 0, masks)


def test_classes_decide_between_equal_masks():
    masks = torch.ones(2, 30)
    classes = torch.tensor([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0]])
    assert match(classes, masks, classes.flip(0), masks).tolist() == [1, 0]
    assert match(classes, masks, classes, masks).tolist() == [0, 1]


def test_empty_masks_have_no_partner():
    classes = torch.full((2, 3), 1 / 3)
    assert match(classes, torch.zeros(2, 5), classes, torch.zeros(2, 5)).tolist() == [-1, -1]


def test_panoptic_and_instances_over_sizes_stay_near_the_plain_ones():
    inputs = [{"image": random_image(96, 128), "height": 96, "width": 128}]
    plain = model()
    found, expected = with_tta(plain, min_sizes=[72, 96, 120], flip=True)(inputs)[0], plain(inputs)[0]
    assert [s["category_id"] for s in found["panoptic_seg"][1]] == [
        s["category_id"] for s in expected["panoptic_seg"][1]
    ]
    assert (found["panoptic_seg"][0] == expected["panoptic_seg"][0]).float().mean() > 0.9
    assert found["instances"].pred_classes.sort()[0].equal(expected["instances"].pred_classes.sort()[0])


@pytest.mark.parametrize("flip", [False, True])
def test_logits_that_are_not_finite_name_the_image(flip):
    plain = model()
    plain.sem_seg_head.logits[0, 2, 1] = float("nan")
    inputs = {"image": random_image(64, 96), "height": 64, "width": 96, "file_name": "folder/a.png"}
    with pytest.raises(ValueError, match=r"folder/a\.png: the network's class logits are not finite"):
        with_tta(plain, [64], flip)([inputs])
