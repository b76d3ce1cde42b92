"""A training step to measure, and the setting from which it is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Setting:
    """The setting of a training step.

    Attributes:
        config: a configuration file.
        options: changes of it: ``(KEY, value, ...)``.
        size: images as ``HxW`` or ``BxHxW`` in pixels.
        objects: number of objects in each image.
        dtype: dtype of the forward pass; float32, or bfloat16 by autocast.
    """

    config: str
    options: tuple[str, ...]
    size: str
    objects: int
    dtype: str
    device: str


@dataclass
class Step:
    """A training step: its loss, its modules by the names of the parts, and its model."""

    loss: Callable[[], Tensor]
    modules: dict[str, nn.Module]
    model: nn.Module
    context: Callable[[], AbstractContextManager[Any]] = nullcontext

    def __post_init__(self) -> None:
        device = next(self.model.parameters()).device.type
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-6, fused=device in ("cpu", "cuda"))

    def __call__(self) -> None:
        for _ in self.stages():
            pass

    def stages(self) -> Iterator[str]:
        """Run the step, and yield the name of each stage once it is done."""
        with self.context():
            self.optimizer.zero_grad()
            loss = self.loss()
            yield "forward"
            loss.backward()
            yield "backward"
            self.optimizer.step()
            yield "optimiser"


def read_config(setting: Setting) -> Any:
    from mask2former.config import load_config

    without_data = ["DATASETS.TRAIN", "()", "DATASETS.TEST", "()", "MODEL.MASK_FORMER.TEST.PANOPTIC_ON", "False"]
    fixed = ["MODEL.WEIGHTS", "", "MODEL.DEVICE", setting.device, *without_data]
    return load_config(setting.config, [*fixed, *setting.options])
