"""Keep an exponential moving average of the weights, which usually scores better than the last ones."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.engine import HookBase
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.hooks import RemovableHandle

from mask2former.checkpoint.checkpointer import AVERAGED
from mask2former.checkpoint.sharded import local
from mask2former.modeling.meta_arch import unwrapped

logger = logging.getLogger(__name__)


class WeightAverageHook(HookBase):
    """Average the weights after each update of the optimiser: average = d * average + (1 - d) * weights.

    d is ``min(decay, (1 + n) / (10 + n))`` after n updates, so that short trainings are averaged too, over about a
    tenth of their length. The first update's weights are where the average begins. Parameters and buffers of floating
    point are averaged, running statistics among them; others (counts) are copied. A step that is left out because its
    loss is not finite changes nothing. Its state goes into checkpoints.

    It works with Detectron2's trainers too. It has to come before the hooks that save and evaluate::

        average = WeightAverageHook(trainer.model, 0.999)
        trainer.register_hooks([average, EvalHook(500, lambda: trainer.test(cfg, average.model))])

    Args:
        model: the one that is trained, in ``DistributedDataParallel`` or not.
        decay: d at last, from 0 (the weights themselves) to below 1; 0.999 averages over about 1000 updates.
        average: where to keep it, for a model that cannot be copied because it is sharded; None: in a copy.

    Raises:
        ValueError: ``decay`` is outside of that range.
    """

    def __init__(self, model: nn.Module, decay: float, average: AveragedModel | None = None) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"SOLVER.EMA.DECAY is {decay}; it has to be at least 0 and below 1, such as 0.999.")
        self._decay = decay
        self._weights = unwrapped(model)
        self._average = AveragedModel(self._weights, use_buffers=True) if average is None else average
        self._average.multi_avg_fn = self._move
        self._average.requires_grad_(False)
        self._handle: RemovableHandle | None = None
        self._updated = False

    @property
    def model(self) -> nn.Module:
        """A model of its own with the averaged weights, to evaluate or save."""
        return self._average.module

    @property
    def updates(self) -> int:
        """Number of updates so far."""
        return int(self._average.n_averaged)

    def before_train(self) -> None:
        if not self.updates:  # weights have been loaded since
            self._start_anew()
        # Told by the optimiser, because a step may be left out. Detectron2's optimisers that clip tell it twice.
        self._handle = self.trainer.optimizer.register_step_post_hook(self._note_update)

    def after_step(self) -> None:
        if self._updated:
            self._average.update_parameters(self._weights)
        self._updated = False

    def after_train(self) -> None:
        if self._handle is not None:
            self._handle.remove()

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, AVERAGED: self.model.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a saved average; where it is of another network, begin with the weights as they are."""
        saved, ours = state_dict[AVERAGED], self.model.state_dict()
        if {name: value.shape for name, value in saved.items()} != {name: one.shape for name, one in ours.items()}:
            logger.warning("The checkpoint's averaged weights are of another network; the average begins anew.")
            self._start_anew()
            return
        self.model.load_state_dict(saved)
        self._average.n_averaged.fill_(state_dict["updates"])

    def _start_anew(self) -> None:
        self.model.load_state_dict(self._weights.state_dict())
        self._average.n_averaged.zero_()

    def _note_update(self, *_: Any) -> None:
        self._updated = True

    def _move(self, averaged: Sequence[Tensor], weights: Sequence[Tensor], _: Tensor | int) -> None:
        """Move the average towards the weights, all tensors being of one number format."""
        averaged, weights = [local(one) for one in averaged], [local(one) for one in weights]
        if averaged[0].is_floating_point():
            updates = self.updates  # on the CPU, where reading it waits for nothing
            decay = min(self._decay, (1 + updates) / (10 + updates))
            get_ema_multi_avg_fn(decay)(averaged, weights, updates)
            return
        with torch.no_grad():
            for own, one in zip(averaged, weights, strict=True):
                own.copy_(one)
