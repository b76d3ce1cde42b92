"""Weights of single classes in the classification loss, beside the formula; and what is refused."""

from __future__ import annotations

import pytest
import torch
from detectron2.data import MetadataCatalog

from mask2former.config import load_config
from mask2former.modeling.losses.class_weights import build_class_weights
from mask2former.modeling.losses.terms import ClassLoss
from mask2former.structures import MaskTargets

DATASET = "class_weights_set"
MetadataCatalog.get(DATASET).set(stuff_classes=["sky", "road", "car=red"])


def config(weights):
    cfg = load_config(None, ["DATASETS.TRAIN", f"('{DATASET}',)", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "3"])
    cfg.MODEL.MASK_FORMER.CLASS_WEIGHTS = weights
    return cfg


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], None),
        ([1, 2.5, 3], [1.0, 2.5, 3.0]),
        (["road=4"], [1.0, 4.0, 1.0]),
        (["0=2", "car=red=0.5"], [2.0, 1.0, 0.5]),
    ],
)
def test_by_order_name_and_number(given, expected):
    assert build_class_weights(config(given)) == expected


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([1.0, 2.0], "has 2 numbers, and there are 3 classes"),
        (["tree=2"], "'tree=2': there is no such class. They are: sky, road, car=red"),
        (["road=much"], "'much' is not a number"),
        ([1.0, 0.0, 1.0], "has to be above 0"),
        (["road=inf"], "has to be above 0"),
    ],
)
def test_mistakes_are_named(given, said):
    with pytest.raises(ValueError, match=said):
        build_class_weights(config(given))


def test_the_loss_is_the_weighted_mean():
    """Two queries are matched, with classes 1 and 2; the third says "no object"."""

    class Layer:
        class_logits = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0))

    target = MaskTargets(torch.tensor([1, 2]), torch.zeros(2, 1, 4, 4, dtype=torch.bool))
    matching = (torch.tensor([[2, 0]]), torch.tensor([[0, 1]]))
    loss = ClassLoss(num_classes=3, weight=2.0, no_object_weight=0.1, class_weights=[1.0, 5.0, 0.5])
    found = loss([Layer()], [target], [matching])["loss_ce"]
    surprise = -Layer.class_logits[0].log_softmax(-1)
    pairs = ((5.0, surprise[2, 1]), (0.5, surprise[0, 2]), (0.1, surprise[1, 3]))
    expected = 2.0 * sum(w * s for w, s in pairs) / sum(w for w, _ in pairs)
    torch.testing.assert_close(found, expected[None])


def test_the_configuration_reaches_the_loss():
    cfg = config(["road=4"])
    cfg.MODEL.MASK_FORMER.NO_OBJECT_WEIGHT = 0.25
    assert ClassLoss(cfg).empty_weight.tolist() == [1.0, 4.0, 1.0, 0.25]
