"""One training step: forward, backward, clipping, update."""

import math
import time
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from mask2former.engine.precision import AmpSettings


class TrainStep(SimpleTrainer):
    """Detectron2's SimpleTrainer with mixed precision on any device and clipping over the whole model.

    Args:
        model: takes a batch and returns a dict of scalar losses, which are summed.
        data_loader: endless; yields lists of mapped data set dicts.
        precision: number format of the forward pass.
        max_grad_norm: gradients are scaled down so that the norm over all parameters is at most this; None: they
            are not clipped here.
        norm_type: order of the norm, 2.0 for the Euclidean one.
        accumulate_steps: a batch is processed in this many parts, one after the other, which takes the memory of one.
            The gradient is the mean of theirs, which is that of the whole batch if the loss is a mean over images.
            Divisors of a loss (number of target masks, class weights) are counted in each part by itself.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable,
        optimizer: torch.optim.Optimizer,
        *,
        precision: AmpSettings,
        max_grad_norm: float | None = None,
        norm_type: float = 2.0,
        accumulate_steps: int = 1,
    ) -> None:
        super().__init__(model, data_loader, optimizer)
        self.precision = precision
        self.grad_scaler = precision.grad_scaler()
        self.max_grad_norm = max_grad_norm
        self.norm_type = norm_type
        self.accumulate_steps = accumulate_steps

    def run_step(self) -> None:
        """Train on one batch.

        Raises:
            FloatingPointError: the loss is not finite, or without loss scaling the norm of the gradient is not; raised
                before the main process changes the weights.
        """
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start

        self.optimizer.zero_grad()  # before the forward pass, which needs the memory of the old gradients
        losses = self._backward(batch)
        # Explicitly, because Detectron2's clipping and ours need the gradients' true size.
        self.grad_scaler.unscale_(self.optimizer)
        metrics = {}
        if self.max_grad_norm is not None:
            parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
            metrics["grad_norm"] = nn.utils.clip_grad_norm_(parameters, self.max_grad_norm, self.norm_type)

        self._record(losses, metrics, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _backward(self, batch: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Add up the gradients of all parts of a batch, and return the mean of their losses."""
        size, rest = divmod(len(batch), self.accumulate_steps)
        if rest or not size:
            raise ValueError(
                f"SOLVER.ACCUMULATE_STEPS is {self.accumulate_steps}, which does not divide the {len(batch)} images "
                "of a process (SOLVER.IMS_PER_BATCH by the number of GPUs)."
            )
        sums: dict[str, Tensor] = {}
        for start in range(0, len(batch), size):
            last = start + size == len(batch)
            # Processes need not exchange gradients that are not yet complete.
            waiting = nullcontext() if last or not hasattr(self.model, "no_sync") else self.model.no_sync()
            with waiting:
                with self.precision.autocast():
                    losses = self.model(batch[start : start + size])
                    total = sum(losses.values()) / self.accumulate_steps
                self.grad_scaler.scale(total).backward()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.detach() / self.accumulate_steps
        return sums

    def _record(self, losses: Mapping[str, Tensor], metrics: Mapping[str, Tensor], data_time: float) -> None:
        """Write scalars, averaged over the processes, with one copy from the device for all of them."""
        scalars = {name: value.detach().float() for name, value in {**losses, **metrics}.items()}
        scalars = comm.reduce_dict(scalars)
        if not comm.is_main_process():
            return
        values = dict(zip(scalars, torch.stack(list(scalars.values())).tolist(), strict=True))
        parts = {name: values[name] for name in losses}
        total = sum(parts.values())
        # With loss scaling, a gradient overflows now and then, and its step is skipped.
        gradient = 0.0 if self.grad_scaler.is_enabled() else values.get("grad_norm", 0.0)
        if not (math.isfinite(total) and math.isfinite(gradient)):
            what = "gradient" if math.isfinite(total) else "loss"
            raise FloatingPointError(
                f"The {what} is not finite at iteration {self.iter}: {parts}. The weights are those before this step. "
                "Usual reasons: a learning rate (SOLVER.BASE_LR) too high, or SOLVER.AMP.DTYPE float16 overflowing."
            )
        get_event_storage().put_scalars(total_loss=total, data_time=data_time, **values)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if state_dict.get("grad_scaler"):  # empty if the run that wrote it was not in float16
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
