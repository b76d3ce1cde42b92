"""Read what a predictor needs from a configuration, and load its weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode

from mask2former.checkpoint.checkpointer import MaskFormerCheckpointer
from mask2former.predictor.arguments import check_task
from mask2former.visualization import RESULTS
from mask2former.zoo import weights_file


def tasks_of(cfg: CfgNode, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Return the kinds of results that are wanted, all that the configuration switches on if None.

    Raises:
        ValueError: one is no kind, or not switched on; or none is.
    """
    given = tuple(task for task in RESULTS if cfg.MODEL.MASK_FORMER.TEST[f"{task.upper()}_ON"])
    if not given:
        switches = ", ".join(f"{task.upper()}_ON" for task in RESULTS)
        raise ValueError(
            f"this configuration of {cfg.MODEL.META_ARCHITECTURE} gives no segmentation. Where the model was trained "
            f"for it, switch it on: one of MODEL.MASK_FORMER.TEST.{{{switches}}} True"
        )
    for task in wanted or ():
        if check_task(task) not in given:
            raise ValueError(
                f"this configuration gives {', '.join(given)}, not {task}. Where the model was trained for it, switch "
                f"it on: MODEL.MASK_FORMER.TEST.{task.upper()}_ON True"
            )
    return tuple(wanted) if wanted else given


def trained_weights(weights: str) -> str:
    """Return the file of weights; raise ValueError if none are named."""
    if not weights:
        raise ValueError(
            "MODEL.WEIGHTS is empty: name the trained weights, such as MODEL.WEIGHTS output/model_final.pth or "
            "coco/panoptic/r50"
        )
    return weights_file(weights)


def load_trained(model: torch.nn.Module, file: str) -> Sequence[str]:
    """Load weights, and fail if some of the head are missing, since its results would be noise.

    Return the names of the model's parameters and buffers that the file lacks.
    """
    checkpointer = MaskFormerCheckpointer(model)
    checkpointer.load(file)
    report = checkpointer.report
    untrained = [name for name in report.missing if name.startswith("sem_seg_head.")] if report else []
    if report and (untrained or report.reshaped):
        raise ValueError(f"{file}: these are not the weights of this model. {' '.join(report.lines()[:3])}")
    return report.missing if report else list(model.state_dict())
