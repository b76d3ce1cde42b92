"""One training step: forward, backward, clipping, update."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from mask2former.checkpoint.sharded import whole_tensor
from mask2former.engine.optimizer_state import load_optimizer_state, optimizer_state
from mask2former.engine.precision import AmpSettings
from mask2former.engine.statistics import RunningStatistics
from mask2former.out_of_memory import is_out_of_memory, need
from mask2former.seeds import seed_step

logger = logging.getLogger(__name__)


class DivergedError(FloatingPointError):
    """The loss was not finite too often; the weights are those of the last good step."""


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
        max_bad_steps: number of steps in a row without a finite loss after which the training ends. Those before are
            left out: they change neither weights nor running statistics.
        seed: random numbers of each step depend on it and on the iteration, so that a resumed training draws the same;
            None: they go on from whatever was drawn before.
        votes: called at each step; numbers that say what this process wants. Their sums over all processes are
            ``agreed`` after the step, the same on each.
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
        max_bad_steps: int = 1,
        seed: int | None = None,
        votes: Callable[[], Sequence[float]] = tuple,
    ) -> None:
        super().__init__(model, data_loader, optimizer)
        self.precision = precision
        self.grad_scaler = precision.grad_scaler()
        self.max_grad_norm = max_grad_norm
        self.norm_type = norm_type
        self.accumulate_steps = accumulate_steps
        self.max_bad_steps = max_bad_steps
        self.seed = seed
        self.votes = votes
        self.agreed: Sequence[float] = ()
        self.bad_steps = 0  # in a row
        self._statistics = RunningStatistics(model)

    def run_step(self) -> None:
        """Train on one batch.

        Raises:
            MemoryError, torch.OutOfMemoryError: memory has run out, the latter a GPU's; the message says how much was
                needed, and which settings help.
            DivergedError: the loss is not finite, or without loss scaling the norm of the gradient is not, for the
                last of ``max_bad_steps`` steps; raised before the weights change, on all processes at once.
        """
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        if self.seed is not None:
            seed_step(self.seed, self.iter, comm.get_rank())

        self._statistics.keep()
        self.optimizer.zero_grad()  # before the forward pass, which needs the memory of the old gradients
        try:
            losses = self._backward(batch)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            kind = torch.OutOfMemoryError if isinstance(error, torch.OutOfMemoryError) else MemoryError
            raise kind(self._what_helps(error, batch)) from error
        # Explicitly, because Detectron2's clipping and ours need the gradients' true size.
        self.grad_scaler.unscale_(self.optimizer)
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        if self.max_grad_norm is not None:
            norm = nn.utils.clip_grad_norm_(parameters, self.max_grad_norm, self.norm_type)
        else:  # to notice one that is not finite
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            norm = nn.utils.get_total_norm(gradients, self.norm_type)
        metrics = {"grad_norm": whole_tensor(norm)}

        values = self._fetch({**losses, **metrics})
        parts = {name: values[name] for name in losses}
        # With loss scaling, a gradient overflows now and then, and its step is skipped.
        gradient = 0.0 if self.grad_scaler.is_enabled() else values.get("grad_norm", 0.0)
        total = sum(parts.values())
        if math.isfinite(total) and math.isfinite(gradient):
            self.bad_steps = 0
            get_event_storage().put_scalars(total_loss=total, data_time=data_time, **values)
            self.grad_scaler.step(self.optimizer)
        else:
            self._leave_out("gradient" if math.isfinite(total) else "loss", parts, losses, batch)
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

    def _what_helps(self, error: Exception, batch: Sequence[Any]) -> str:
        images = [one["image"] for one in batch if isinstance(one, Mapping) and hasattr(one.get("image"), "shape")]
        height, width = (max((image.shape[axis] for image in images), default=0) for axis in (-2, -1))
        more = (parts for parts in range(self.accumulate_steps + 1, len(batch) + 1) if len(batch) % parts == 0)
        settings = [
            *[f"SOLVER.ACCUMULATE_STEPS {parts} (smaller parts of the same batch)" for parts in more][:1],
            "MODEL.CHECKPOINT \"['backbone', 'pixel_decoder']\" (the same losses, in more time)",
            "smaller images, by INPUT.CROP.SIZE or INPUT.IMAGE_SIZE",
        ]
        return (
            f"Out of memory at iteration {self.iter}, in a step of {len(batch)} images of up to {width} x {height} "
            f"pixels: {need(error)}. Settings that help, the mildest first: {'; '.join(settings)}."
        )

    def _fetch(self, scalars: Mapping[str, Tensor]) -> dict[str, float]:
        """Return scalars, averaged over the processes and equal on each, with one copy from the device for all."""
        stacked = torch.stack([value.detach().float() for value in scalars.values()])
        votes, processes = self.votes(), comm.get_world_size()
        if processes == 1:
            self.agreed = votes
            return dict(zip(scalars, stacked.tolist(), strict=True))
        asked = torch.tensor(votes, dtype=torch.float32).to(stacked.device, non_blocking=True)
        together = torch.cat([stacked / processes, asked])
        torch.distributed.all_reduce(together)
        numbers = together.tolist()
        self.agreed = numbers[len(scalars) :]
        return dict(zip(scalars, numbers, strict=False))

    def _leave_out(
        self, what: str, parts: Mapping[str, float], losses: Mapping[str, Tensor], batch: Sequence[Any]
    ) -> None:
        """Undo what a bad step has changed, and say so; after too many, give up."""
        self.bad_steps += 1
        self._statistics.restore()
        self.optimizer.zero_grad()
        get_event_storage().put_scalar("bad_steps", self.bad_steps, smoothing_hint=False)
        bad = [name for name, value in parts.items() if not math.isfinite(value)]
        where = f"The {what} is not finite at iteration {self.iter}: {dict(parts)}."
        if self.bad_steps < self.max_bad_steps:
            logger.warning(
                "%s This step is left out, %d of %d in a row that end the training (SOLVER.MAX_BAD_STEPS).",
                where if len(bad) > 3 or not bad else f"{what} not finite at iteration {self.iter}: {', '.join(bad)}.",
                self.bad_steps,
                self.max_bad_steps,
            )
            return
        own = {name: value.item() for name, value in losses.items()}
        images = [str(one.get("file_name", "?")) for one in batch if isinstance(one, Mapping)]
        found = comm.gather((own, images))
        seen = "; ".join(
            f"process {rank}: {', '.join(names) or 'images without a name'}"
            for rank, (of_rank, names) in enumerate(found)
            if what == "gradient" or not math.isfinite(sum(of_rank.values()))
        )
        raise DivergedError(
            f"{where} The weights are those before this step, the last of {self.bad_steps} in a row that failed so. "
            f"Images of the batch, {seen}. Usual reasons: a learning rate (SOLVER.BASE_LR) too high, or "
            "SOLVER.AMP.DTYPE float16 overflowing."
        )

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "optimizer": optimizer_state(self.optimizer),
            "grad_scaler": self.grad_scaler.state_dict(),
            "bad_steps": self.bad_steps,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super(SimpleTrainer, self).load_state_dict(state_dict)
        load_optimizer_state(self.optimizer, state_dict["optimizer"], self.model)
        if state_dict.get("grad_scaler"):  # empty if the run that wrote it was not in float16
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
        self.bad_steps = state_dict.get("bad_steps", 0)
