"""One training step: forward, backward, clipping, update."""

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from mask2former.engine.precision import Precision


class TrainStep(SimpleTrainer):
    """Detectron2's SimpleTrainer with mixed precision on any device and clipping over the whole model.

    Args:
        model: takes a batch and returns a dict of scalar losses, which are summed.
        data_loader: endless; gives lists of mapped data set dicts.
        precision: number format of the forward pass.
        max_grad_norm: gradients are scaled down so that the norm over all parameters is at most this; None: they
            are left alone.
        norm_type: which norm, 2.0 for the Euclidean one.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable,
        optimizer: torch.optim.Optimizer,
        *,
        precision: Precision,
        max_grad_norm: float | None = None,
        norm_type: float = 2.0,
    ) -> None:
        super().__init__(model, data_loader, optimizer)
        self.precision = precision
        self.grad_scaler = precision.grad_scaler()
        self.max_grad_norm = max_grad_norm
        self.norm_type = norm_type

    def run_step(self) -> None:
        """Raises FloatingPointError, before the main process touches the weights, if the loss or, where no loss
        scaling takes care of it, the gradient is infinite or not a number.
        """
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start

        with self.precision.autocast():
            losses = self.model(batch)
            total = sum(losses.values())
        self.optimizer.zero_grad()
        self.grad_scaler.scale(total).backward()
        # Explicitly, because Detectron2's clipping and ours want the gradients' true size.
        self.grad_scaler.unscale_(self.optimizer)
        metrics = {}
        if self.max_grad_norm is not None:
            parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
            metrics["grad_norm"] = nn.utils.clip_grad_norm_(parameters, self.max_grad_norm, self.norm_type)

        self._record(losses, metrics, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _record(self, losses: Mapping[str, Tensor], metrics: Mapping[str, Tensor], data_time: float) -> None:
        """Write scalars, averaged over the processes, with one copy from the device for all of them."""
        scalars = {name: value.detach().float() for name, value in {**losses, **metrics}.items()}
        scalars = comm.reduce_dict(scalars)
        if not comm.is_main_process():
            return
        values = dict(zip(scalars, torch.stack(list(scalars.values())).tolist(), strict=True))
        parts = {name: values[name] for name in losses}
        total = sum(parts.values())
        # With loss scaling an overflowing gradient is expected now and then, and its step is left out.
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
