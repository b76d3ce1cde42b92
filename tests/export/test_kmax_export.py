"""kMaX-DeepLab as a program: results of its masks, which are a softmax over slots."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from detectron2.modeling import build_model
from small_models import kmax
from torch import nn
from torch.nn import functional as F

from mask2former.export import ExportedNetwork


def model() -> nn.Module:
    torch.manual_seed(0)
    return build_model(kmax()).eval()


@torch.no_grad()
def test_program_has_the_semantic_result() -> None:
    """Through the padding, the aligned corners, and the softmax over slots."""
    whole = model()
    predictor = whole.sem_seg_head.predictor.get_submodule("_predcitor")
    nn.init.normal_(predictor.get_submodule("_transformer_class_head").conv.weight, std=3.0)
    nn.init.constant_(predictor.get_submodule("_pixel_space_mask_batch_norm").weight, 30.0)
    image = F.interpolate(torch.rand(1, 3, 5, 7), (50, 70), mode="bicubic").clamp(0, 1) * 255
    canvas = F.pad((image - 127.5) / 127.5, (0, 97 - 70, 0, 65 - 50))
    prediction = whole.network(canvas)
    logits = F.interpolate(prediction.masks.logits()[:, :, 0], (65, 97), mode="bilinear", align_corners=True)
    masks = logits[0, :, :50, :70].softmax(0)
    expected = torch.einsum("qk,qhw->khw", prediction.class_logits[0].softmax(-1)[:, :-1], masks).argmax(0)
    assert len(expected.unique()) > 1
    found = ExportedNetwork(whole, "semantic")(image)[0]
    assert (found == expected).float().mean() > 0.999  # sums in another order


def test_other_panoptic_rules_are_refused() -> None:
    whole = model()
    whole.post_processing = replace(whole.post_processing, panoptic_on=True, panoptic_rule="Other")
    with pytest.raises(ValueError, match=r"or TwoArgmaxMerger; MODEL.MASK_FORMER.TEST.PANOPTIC_RULE is Other"):
        ExportedNetwork(whole, "panoptic")
