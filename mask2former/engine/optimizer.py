"""Optimiser and learning rate schedule, with the published hyper-parameters."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.solver import LRMultiplier
from detectron2.solver import build_lr_scheduler as build_detectron2_lr_scheduler
from detectron2.solver.build import maybe_add_gradient_clipping
from fvcore.common.param_scheduler import ParamScheduler
from torch import nn

from mask2former.checkpoint.sharded import is_sharded
from mask2former.data.progressive import Stage, build_stages, rate_factor

NORM_LAYERS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.GroupNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.LayerNorm,
    nn.LocalResponseNorm,
)
# Swin's position tables are looked up, not multiplied, so they are not decayed.
UNDECAYED_NAMES = ("relative_position_bias_table", "absolute_pos_embed")


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Build AdamW, Adam or SGD, as ``SOLVER.OPTIMIZER`` says, over :func:`parameter_groups`.

    Clipping by "value" or "norm" (each parameter by itself) is Detectron2's and happens inside ``optimizer.step()``.
    Clipping by "full_model" needs gradients without the loss scale of mixed precision and is done by the trainer.

    Raises:
        ValueError: unknown name of an optimiser or of a clipping.
    """
    solver = cfg.SOLVER
    classes = {"ADAMW": torch.optim.AdamW, "ADAM": torch.optim.Adam, "SGD": torch.optim.SGD}
    if solver.OPTIMIZER not in classes:
        raise ValueError(f"SOLVER.OPTIMIZER is {solver.OPTIMIZER!r}; choose one of {', '.join(classes)}.")
    clip_type = solver.CLIP_GRADIENTS.CLIP_TYPE
    if solver.CLIP_GRADIENTS.ENABLED and clip_type not in ("full_model", "norm", "value"):
        raise ValueError(f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE is {clip_type!r}; choose one of full_model, norm, value.")

    optimizer_class = classes[solver.OPTIMIZER]
    if clip_type != "full_model":
        optimizer_class = maybe_add_gradient_clipping(cfg, optimizer_class)
    arguments: dict[str, Any] = {"lr": solver.BASE_LR, "weight_decay": solver.WEIGHT_DECAY}
    if solver.OPTIMIZER == "SGD":
        arguments |= {"momentum": solver.MOMENTUM, "nesterov": solver.NESTEROV}
    else:
        arguments["eps"] = solver.ADAM_EPS
    groups = parameter_groups(cfg, model)
    # One kernel for all parameters of a group takes a third of the time on a CPU. Not all other devices have it, and
    # SGD's is not there for sharded parameters.
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    fused = devices <= {"cpu", "cuda"} and not (solver.OPTIMIZER == "SGD" and is_sharded(model))
    return optimizer_class(groups, fused=fused, **arguments)


def parameter_groups(cfg: CfgNode, model: nn.Module) -> list[dict[str, Any]]:
    """Group the trainable parameters, each once, by learning rate and weight decay.

    Parameters below a module with "backbone" in its name learn at BASE_LR * BACKBONE_MULTIPLIER, but for those of which
    a module's ``is_new(parameter_name) -> bool`` says that they are not pre-trained. Weight decay is WEIGHT_DECAY_NORM
    in normalisation layers, WEIGHT_DECAY_EMBED in ``nn.Embedding``, 0 for Swin's position tables and WEIGHT_DECAY
    otherwise.

    A module may define ``lr_scale(parameter_name) -> float``: the factor on the rate of one of its parameters, whose
    name is relative to that module ("layers.0.norm.weight"). Factors of nested modules are multiplied. A backbone can
    so have layer-wise decay: ``rate ** (depth - layer_of(parameter_name))``. Likewise it may define
    ``undecayed(parameter_name) -> bool``, which says that a parameter has no weight decay.

    The groups are few because multi-tensor and fused optimisers run once for each.

    Raises:
        ValueError: a factor is not finite, or is negative.
    """
    scales = {name: module.lr_scale for name, module in model.named_modules() if hasattr(module, "lr_scale")}
    undecayed = {name: module.undecayed for name, module in model.named_modules() if hasattr(module, "undecayed")}
    new = {name: module.is_new for name, module in model.named_modules() if hasattr(module, "is_new")}
    later = bool(cfg.SOLVER.BACKBONE_WARMUP)
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for module_name, module, parameter_name, parameter in _trainable(model):
        full_name = f"{module_name}.{parameter_name}" if module_name else parameter_name
        pretrained = "backbone" in module_name and not any(says(own) for says, own in _of_parameter(new, full_name))
        rate = cfg.SOLVER.BASE_LR * (cfg.SOLVER.BACKBONE_MULTIPLIER if pretrained else 1.0)
        rate *= _scale(scales, full_name)
        if any(says(own) for says, own in _of_parameter(undecayed, full_name)):
            decay = 0.0
        elif isinstance(module, NORM_LAYERS):
            decay = cfg.SOLVER.WEIGHT_DECAY_NORM
        elif isinstance(module, nn.Embedding):
            decay = cfg.SOLVER.WEIGHT_DECAY_EMBED
        elif any(name in parameter_name for name in UNDECAYED_NAMES):
            decay = 0.0
        else:
            decay = cfg.SOLVER.WEIGHT_DECAY
        groups.setdefault((rate, decay, later and pretrained), []).append(parameter)
    return [
        {"params": params, "lr": rate, "weight_decay": decay} | ({"later": late} if later else {})
        for (rate, decay, late), params in groups.items()
    ]


def _scale(scales: Mapping[str, Callable[[str], float]], parameter_name: str) -> float:
    """Multiply the factors of all modules that contain a parameter; 1.0 if there are none."""
    result = 1.0
    for lr_scale, own_name in _of_parameter(scales, parameter_name):
        scale = lr_scale(own_name)
        if not (math.isfinite(scale) and scale >= 0):
            place = parameter_name.removesuffix(own_name).removesuffix(".") or "the model"
            raise ValueError(
                f"lr_scale of {place} gives {scale} for {own_name!r}; it has to give a factor that is finite and not "
                "negative."
            )
        result *= scale
    return result


def _of_parameter(
    functions: Mapping[str, Callable[[str], Any]], parameter_name: str
) -> Iterator[tuple[Callable[[str], Any], str]]:
    """Yield the functions of all modules that contain a parameter, with its name relative to each."""
    for module_name, function in functions.items():
        prefix = module_name + "." if module_name else ""
        if parameter_name.startswith(prefix):
            yield function, parameter_name.removeprefix(prefix)


def _trainable(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, nn.Parameter]]:
    seen: set[nn.Parameter] = set()
    for module_name, module in model.named_modules():
        for parameter_name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                yield module_name, module, parameter_name, parameter


class WarmupPoly(ParamScheduler):
    """The factor ``warmup(i) * (1 - i / max_iter) ** power`` on the base learning rate at iteration i.

    The warm-up multiplies the decay, as in Detectron2's DeepLab project, whose schedule the published configs name but
    which an installed Detectron2 may lack. (Detectron2's own WarmupParamScheduler instead rises in a straight line to
    the decay's value at the end of the warm-up.)

    Args:
        constant_ending: lower limit of the decay after the warm-up; 0 for none.
        warmup_method: "linear", from ``warmup_factor`` to 1, or "constant", ``warmup_factor`` then 1.
    """

    def __init__(
        self,
        max_iter: int,
        power: float = 0.9,
        constant_ending: float = 0.0,
        warmup_iters: int = 0,
        warmup_factor: float = 1.0,
        warmup_method: str = "linear",
    ) -> None:
        if warmup_method not in ("linear", "constant"):
            raise ValueError(f"SOLVER.WARMUP_METHOD is {warmup_method!r}; choose linear or constant.")
        self.max_iter = max_iter
        self.power = power
        self.constant_ending = constant_ending
        self.warmup_iters = warmup_iters
        self.warmup_factor = warmup_factor
        self.warmup_method = warmup_method

    def __call__(self, where: float) -> float:
        """Return the factor at the share ``where`` (0 to 1) of the training."""
        iteration = round(where * self.max_iter)
        decay = max(0.0, 1.0 - iteration / self.max_iter) ** self.power
        if iteration >= self.warmup_iters:
            return max(decay, self.constant_ending)
        done = iteration / self.warmup_iters if self.warmup_method == "linear" else 0.0
        return decay * (self.warmup_factor * (1.0 - done) + done)


class WarmupThenPoly(WarmupPoly):
    """The factor of kMaX-DeepLab's TF2WarmupPolyLR: the warm-up alone, then the decay, counted from iteration 0.

    So the rate steps down where the warm-up ends, by 3 % after 5,000 of 150,000 iterations.
    """

    def __call__(self, where: float) -> float:
        iteration = round(where * self.max_iter)
        if iteration >= self.warmup_iters:
            return super().__call__(where)
        done = iteration / self.warmup_iters if self.warmup_method == "linear" else 0.0
        return self.warmup_factor * (1.0 - done) + done


POLY_SCHEDULES = {"WarmupPolyLR": WarmupPoly, "TF2WarmupPolyLR": WarmupThenPoly}


class ByStage(ParamScheduler):
    """Another factor, times that of the stage's batch (``INPUT.PROGRESSIVE.SCALE_LR``)."""

    def __init__(self, factor: ParamScheduler, stages: Sequence[Stage], max_iter: int) -> None:
        self.factor = factor
        self.stages = stages
        self.max_iter = max_iter

    def __call__(self, where: float) -> float:
        return self.factor(where) * rate_factor(self.stages, round(where * self.max_iter))


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    """Build ``SOLVER.LR_SCHEDULER_NAME``: WarmupPolyLR, TF2WarmupPolyLR, or Detectron2's (WarmupMultiStepLR ...)."""
    solver = cfg.SOLVER
    follows = cfg.INPUT.PROGRESSIVE.ENABLED and cfg.INPUT.PROGRESSIVE.SCALE_LR
    if solver.LR_SCHEDULER_NAME not in POLY_SCHEDULES:
        if follows:
            raise ValueError(
                f"INPUT.PROGRESSIVE.SCALE_LR needs SOLVER.LR_SCHEDULER_NAME WarmupPolyLR; it is "
                f"{solver.LR_SCHEDULER_NAME}."
            )
        return build_detectron2_lr_scheduler(cfg, optimizer)
    factor: ParamScheduler = POLY_SCHEDULES[solver.LR_SCHEDULER_NAME](
        solver.MAX_ITER,
        power=solver.POLY_LR_POWER,
        constant_ending=solver.POLY_LR_CONSTANT_ENDING,
        warmup_iters=solver.WARMUP_ITERS,
        warmup_factor=solver.WARMUP_FACTOR,
        warmup_method=solver.WARMUP_METHOD,
    )
    if not solver.BACKBONE_WARMUP:
        if follows:
            factor = ByStage(factor, build_stages(cfg), solver.MAX_ITER)
        return LRMultiplier(optimizer, factor, max_iter=solver.MAX_ITER)
    if follows:
        raise ValueError(
            "SOLVER.BACKBONE_WARMUP and a rate that follows INPUT.PROGRESSIVE cannot be used together; choose one."
        )
    try:
        zero, rising = (int(iterations) for iterations in solver.BACKBONE_WARMUP)
    except ValueError as error:
        raise ValueError(
            f"SOLVER.BACKBONE_WARMUP is {list(solver.BACKBONE_WARMUP)}; it is empty, or two numbers of iterations: "
            "at rate 0, and rising."
        ) from error
    return TwoStageMultiplier(optimizer, TwoStagePoly(factor, zero, rising), max_iter=solver.MAX_ITER)


class TwoStagePoly(ParamScheduler):
    """Factors of new parts and of a backbone that starts later (EoMT, arXiv 2503.19108, section 4.1).

    Both fall as ``(1 - share) ** power`` of what is left after their own warm-up, which rises in a straight line.

    Args:
        new: length, power and warm-up of the new parts.
        zero: iterations for which the backbone stays as it is.
        rising: iterations of its warm-up after that.
    """

    def __init__(self, new: WarmupPoly, zero: int, rising: int) -> None:
        self.new, self.zero, self.rising = new, zero, rising

    def __call__(self, where: float, later: bool = False) -> float:
        """Return the factor at the share ``where`` (0 to 1) of the training; ``later``: the backbone's."""
        iteration = round(where * self.new.max_iter)
        start, length = (self.zero, self.rising) if later else (0, self.new.warmup_iters)
        first = 0.0 if later else self.new.warmup_factor
        if iteration < start:
            return 0.0
        if iteration < start + length:
            return first + (1 - first) * (iteration - start) / length
        share = (iteration - start - length) / max(1, self.new.max_iter - start - length)
        return max(0.0, 1.0 - share) ** self.new.power


class TwoStageMultiplier(LRMultiplier):
    """Detectron2's, with the later factor for the groups of parameters that say so."""

    def get_lr(self) -> list[float]:
        where = self.last_epoch / self._max_iter
        schedule: Any = self._multiplier
        return [
            base * schedule(where, later=group["later"])
            for base, group in zip(self.base_lrs, self.optimizer.param_groups, strict=True)
        ]
