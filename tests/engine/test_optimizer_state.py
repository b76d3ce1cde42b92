"""Optimiser states of other shapes start anew by name, or are refused; they never reach PyTorch's kernels."""

import logging

import pytest
import torch
from torch import nn

from mask2former.engine.optimizer_state import load_optimizer_state, optimizer_state


def trained(classes, queries=3, make=torch.optim.AdamW, extra=False):
    model = nn.ModuleDict({"backbone": nn.Linear(4, 4), "class_embed": nn.Linear(4, classes)})
    model["queries"] = nn.Embedding(queries, 4)
    if extra:
        model["extra"] = nn.Linear(1, 1)
    optimizer = make(model.parameters(), lr=0.1)
    out = model["class_embed"](model["backbone"](model["queries"].weight))
    (out.square().mean() + sum(p.sum() for p in model.parameters())).backward()
    optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("known", [True, False], ids=["with shapes", "of older releases"])
@pytest.mark.parametrize(
    ("now", "anew"),
    [
        ({"classes": 5}, []),
        ({"classes": 6}, ["class_embed.weight", "class_embed.bias"]),
        ({"classes": 5, "queries": 9}, ["queries.weight"]),
        ({"classes": 1, "queries": 1}, ["class_embed.weight", "class_embed.bias", "queries.weight"]),
    ],
)
def test_what_does_not_fit_starts_anew_and_is_named(known, now, anew, caplog):
    _, before = trained(5)
    model, optimizer = trained(**now)
    saved = optimizer_state(before) if known else before.state_dict()
    with caplog.at_level(logging.WARNING):
        assert load_optimizer_state(optimizer, saved, model) == anew
    assert all(name in caplog.text for name in anew) and bool(caplog.text) == bool(anew)
    for name, parameter in model.named_parameters():
        moments = optimizer.state[parameter]
        assert (name in anew) == (not moments)
        assert all(value.shape in ((), parameter.shape) for value in moments.values())
    sum(p.square().sum() for p in model.parameters()).backward()
    optimizer.step()
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_another_network_is_refused():
    _, before = trained(5)
    model, optimizer = trained(5, extra=True)
    with pytest.raises(ValueError, match="has 5 parameters in 1 groups, this one 7 in 1"):
        load_optimizer_state(optimizer, optimizer_state(before), model)


def test_optimizers_that_keep_rows_and_columns_go_on():
    model, before = trained(5, make=torch.optim.Adafactor)
    saved = optimizer_state(before)
    shapes = {tuple(value.shape) for state in saved["state"].values() for value in state.values()
              if isinstance(value, torch.Tensor)}  # fmt: skip
    assert (4, 1) in shapes
    assert load_optimizer_state(before, saved, model) == []
