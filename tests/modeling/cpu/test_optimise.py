"""Which parts get another form, and that nothing but ``forward`` changes with it."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from detectron2.modeling.backbone.resnet import ResNet
from torch import nn

from mask2former.modeling.backbone import D2SwinTransformer
from mask2former.modeling.backbone.swin_stages import SwinBlock
from mask2former.modeling.cpu import make_plain, optimise_for_cpu
from mask2former.modeling.layers.residual import FeedForward


class Own(FeedForward):
    """A user's own part, whose forward pass nobody may exchange."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def model() -> nn.Module:
    swin = D2SwinTransformer(embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))
    return nn.ModuleDict({"swin": swin, "plain": FeedForward(8, 16), "own": Own(8, 16)})


def test_only_classes_change_and_the_way_back_is_the_same() -> None:
    one = model()
    before, state = [type(m) for m in one.modules()], {k: v.clone() for k, v in one.state_dict().items()}
    optimise_for_cpu(one)
    assert type(one["plain"]) is not FeedForward and isinstance(one["plain"], FeedForward)
    blocks = [m for m in one.modules() if isinstance(m, SwinBlock)]
    assert len(blocks) == 4 and all(type(block) is not SwinBlock for block in blocks)
    assert type(one["own"]) is Own
    after = [type(m) for m in one.modules()]
    optimise_for_cpu(one)
    assert [type(m) for m in one.modules()] == after
    found = one.state_dict()
    assert found.keys() == state.keys() and all(torch.equal(found[k], state[k]) for k in state)
    make_plain(one)
    assert [type(m) for m in one.modules()] == before


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copied", "pickled"])
@torch.no_grad()
def test_a_twin_runs_on_its_own_weights(twin: object) -> None:
    one = FeedForward(8, 16).eval()
    optimise_for_cpu(one)
    x = torch.randn(1, 1500, 8)
    other = twin(one)
    other.linear2.bias += 1
    assert type(other) is type(one)
    assert not torch.allclose(other(x), one(x))


def test_the_meta_architecture_asks_for_them(small_options: list[str]) -> None:
    from detectron2.modeling import build_model

    from mask2former.config import load_config

    cfg = load_config(
        "configs/quickstart/panoptic.yaml", [*small_options, "MODEL.MASK_FORMER.TEST.PANOPTIC_ON", "False"]
    )
    built = build_model(cfg)
    plain = (ResNet, FeedForward)
    assert not [m for m in built.modules() if type(m) in plain] and isinstance(built.backbone, ResNet)
