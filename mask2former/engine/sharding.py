"""Spread parameters, gradients and the optimiser's state over the processes of a training: PyTorch's FSDP2."""

from __future__ import annotations

import copy
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.layers import CNNBlockBase
from detectron2.utils import comm
from torch import distributed, nn
from torch.optim.swa_utils import AveragedModel

from mask2former.checkpoint.sharded import sharded_like, whole_tensor

logger = logging.getLogger(__name__)
CHOICES = ("none", "fsdp2")


def sharding_wanted(cfg: CfgNode) -> bool:
    """Tell whether ``SOLVER.SHARDING`` asks for sharding, and this is one of several processes.

    Raises:
        ValueError: an unknown value, or a part of the configuration that does not work with it.
    """
    wanted = cfg.SOLVER.SHARDING
    if wanted not in CHOICES:
        raise ValueError(f"SOLVER.SHARDING is {wanted!r}; choose one of {', '.join(CHOICES)}.")
    if wanted == "none":
        return False
    if cfg.MODEL.DISTILLATION.ENABLED:
        raise ValueError(
            "SOLVER.SHARDING fsdp2 does not work with a teacher: set MODEL.DISTILLATION.ENABLED False, or "
            "SOLVER.SHARDING none."
        )
    if comm.get_world_size() == 1:
        logger.warning("SOLVER.SHARDING fsdp2 needs several processes; this one trains without it.")
        return False
    return True


class Sharding:
    """A model that is sharded in place, and a copy of it that is not.

    Each layer that ``MODEL.CHECKPOINT`` could take by itself is a unit: its parameters are gathered when it runs and
    freed after. The rest of the model is one more unit, which is gathered for the whole step. As with
    DistributedDataParallel, the first process's weights are where all begin.

    Evaluation, ``model_best.pth`` and ``model_final.pth`` use the copy, so that processes may have images of different
    numbers and sizes, and code may read weights anywhere. Between evaluations it is in the memory of the CPU.

    Args:
        model: on the device of the training.
        averaged: keep averaged weights too (``SOLVER.EMA``), sharded likewise.

    Attributes:
        whole: the copy.
        average: of the weights; None if not ``averaged``.
    """

    def __init__(self, model: nn.Module, averaged: bool) -> None:
        self._device = next(model.parameters()).device
        for tensor in (*model.parameters(), *model.buffers()):
            distributed.broadcast(tensor.detach(), 0)
        self.whole = copy.deepcopy(model).requires_grad_(False).cpu()
        self.average = AveragedModel(model, use_buffers=True) if averaged else None
        units = _shard(model, self._device.type)
        if self.average is not None:
            _shard(self.average.module, self._device.type)
        # The losses of a step are views of one tensor, and are added to another one.
        warnings.filterwarnings(
            "ignore", message="FSDP2-wrapped module .* returned a view tensor", category=UserWarning
        )
        logger.info("FSDP2: %d units over %d processes.", units, comm.get_world_size())

    def gather(self, model: nn.Module) -> None:
        """Take over the weights of a sharded model into the copy, on all processes, and put it where they train."""
        self.whole.to(self._device)
        source = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        with torch.no_grad():
            for name, value in (*self.whole.named_parameters(), *self.whole.named_buffers()):
                value.copy_(whole_tensor(source[name]))

    def release(self) -> None:
        """Put the copy where its memory does not matter."""
        self.whole.cpu()


def _shard(model: nn.Module, device_type: str) -> int:
    """Shard a model in place; return the number of units."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device_type, (comm.get_world_size(),))
    layers = list(_layers(model))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for module in model.modules():
        if next(module.parameters(recurse=False), None) is not None:
            module.register_load_state_dict_pre_hook(_shard_on_load)
    return len(layers) + 1


def _layers(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost layers that can be taken one by one and share no parameter with others.

    Layers that say that parts of them are called by others too (``runs_whole = False``) stay in the unit of the rest.
    """
    users = Counter(parameter for module in model.modules() for parameter in module.parameters(recurse=False))
    kinds = {CNNBlockBase, *(kind for part in model.modules() for kind in getattr(part, "checkpoint_layers", ()))}
    inside: set[nn.Module] = set()
    for layer in model.modules():
        if layer in inside or not isinstance(layer, tuple(kinds)) or not getattr(layer, "runs_whole", True):
            continue
        parameters = list(layer.parameters())
        if parameters and all(users[parameter] == 1 for parameter in parameters):
            inside.update(layer.modules())
            yield layer


def _shard_on_load(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Shard a module's own weights in ``state``, in place, as PyTorch requires of such hooks."""
    for name, parameter in module.named_parameters(recurse=False):
        if (key := prefix + name) in state:
            state[key] = sharded_like(state[key], parameter)


class GatherHook(HookBase):
    """Gather the weights of a sharded training before they are evaluated or saved; it comes before the hooks that do.

    Args:
        sharding: of the training.
        model: what is the training's result: the weights that are trained, or their average; sharded.
        period: iterations between two evaluations; 0: none before the end.
    """

    def __init__(self, sharding: Sharding, model: nn.Module, period: int) -> None:
        self._sharding = sharding
        self._model = model
        self._period = period

    def before_train(self) -> None:
        if self.trainer.start_iter >= self.trainer.max_iter:  # nothing is left but to evaluate
            self._sharding.gather(self._model)

    def before_step(self) -> None:
        self._sharding.release()

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done >= self.trainer.max_iter or (self._period > 0 and done % self._period == 0):
            self._sharding.gather(self._model)
