"""A predictor's model draws no random weights that its file replaces, and draws those that the file lacks."""

from __future__ import annotations

from pathlib import Path

import torch

from mask2former.config import load_config
from mask2former.predictor.trained_model import Undrawn, build_trained

KERNEL = "backbone.res2.0.conv1.weight"


def test_everything_is_the_files(folder: Path) -> None:
    cfg = load_config(str(folder / "config.yaml"))
    stored = torch.load(folder / "model_final.pth", weights_only=True)["model"]
    model = build_trained(cfg, str(folder / "model_final.pth"))
    assert not model.training and all(parameter.requires_grad for parameter in model.sem_seg_head.parameters())
    found = model.state_dict()
    assert found.keys() == stored.keys() and all(torch.equal(found[name], stored[name]) for name in stored)


def test_what_the_file_lacks_is_drawn(folder: Path, tmp_path: Path) -> None:
    cfg = load_config(str(folder / "config.yaml"))
    content = torch.load(folder / "model_final.pth", weights_only=True)["model"]
    stored = content.pop(KERNEL)
    torch.save({"model": content}, tmp_path / "lacks.pth")
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found = build_trained(cfg, str(tmp_path / "lacks.pth")).state_dict()
        drawn.append(found.pop(KERNEL))
        assert all(torch.equal(value, content[name]) for name, value in found.items())
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert 0.8 < drawn[0].std() / stored.std() < 1.25


class Part(torch.nn.Module):
    """Parameters by each initialiser that networks use, constants, and a random buffer that no file holds."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = torch.nn.Linear(64, 64), torch.nn.LayerNorm(64)
        self.embedding, self.convolution = torch.nn.Embedding(5, 8), torch.nn.Conv2d(3, 4, 3)
        torch.nn.init.trunc_normal_(self.linear.weight, std=0.02)
        torch.nn.init.constant_(self.linear.bias, 3.0)
        for initialise in (torch.nn.init.xavier_uniform_, torch.nn.init.kaiming_normal_):
            initialise(self.convolution.weight)
        self.register_buffer("places", torch.empty(64).normal_(), persistent=False)


def test_only_the_random_buffer_is_drawn() -> None:
    torch.manual_seed(0)
    expected = torch.empty(64).normal_()
    after = torch.get_rng_state()
    torch.manual_seed(0)
    with Undrawn():
        part = Part()
    assert torch.equal(part.places, expected) and torch.equal(torch.get_rng_state(), after)
    assert (part.linear.bias == 3).all() and (part.norm.weight == 1).all()
