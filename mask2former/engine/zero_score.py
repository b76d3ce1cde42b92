"""Say why a training has scored nothing, from what is known at its end."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from torch import Tensor, nn

from mask2former.evaluation.scores import summarize
from mask2former.modeling.meta_arch import unwrapped

LOOKED_AT = 8  # images
LEAST_SHOWN = 20  # passes through the training images, below which a network that begins anew has hardly learnt


def scored_nothing(results: Mapping[str, Any]) -> bool:
    """Tell whether all of the main scores are 0 or not numbers."""
    scores = [value for _, value in summarize(results)] if results else []
    return bool(scores) and all(math.isnan(value) or value == 0 for value in scores)


def likely_reasons(
    cfg: CfgNode, model: nn.Module, batches: Any, *, losses: Sequence[float], shown: float, matched: str = ""
) -> list[str]:
    """Return what is wrong, the most telling first; each with the numbers that say so and what to do.

    Args:
        cfg: the configuration.
        model: evaluated with a score of 0.
        batches: of the evaluation; a few are looked at.
        losses: the training's total losses, in order.
        shown: passes through the training images.
        matched: what the checkpointer said of the weights that it began with; "" if it began anew.
    """
    return [*_classes(cfg), *_losses(cfg, losses), *_predictions(cfg, model, batches), *_length(cfg, shown, matched)]


def _classes(cfg: CfgNode) -> Iterator[str]:
    names = [*cfg.DATASETS.TRAIN[:1], *cfg.DATASETS.TEST[:1]]
    known = [_class_names(name) for name in names]
    if len(known) == 2 and all(known) and known[0] != known[1]:
        differing = [f"{i}: {a} and {b}" for i, (a, b) in enumerate(itertools.zip_longest(*known)) if a != b][:3]
        yield (
            f"{names[0]} and {names[1]} number their classes differently ({'; '.join(differing)}). Training and "
            "evaluation need the same list of classes."
        )
    if known and known[-1] and len(known[-1]) != cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES:
        yield (
            f"MODEL.SEM_SEG_HEAD.NUM_CLASSES is {cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES}, and {names[-1]} has "
            f"{len(known[-1])} classes. Set it to that."
        )


def _class_names(dataset: str) -> list[str]:
    known = MetadataCatalog.get(dataset).as_dict()
    return list(known.get("stuff_classes") or known.get("thing_classes") or ())


def _losses(cfg: CfgNode, losses: Sequence[float]) -> Iterator[str]:
    tenth = len(losses) // 10
    if not tenth:
        return
    first, last = (sorted(part)[len(part) // 2] for part in (losses[:tenth], losses[-tenth:]))
    if last >= first:
        yield (
            f"The loss has not fallen: {first:.2f} in the first tenth of the training, {last:.2f} in the last. "
            f"SOLVER.BASE_LR {cfg.SOLVER.BASE_LR:g} may be too high, or so low that nothing is learnt: try a tenth, "
            "and ten times as much."
        )


def _predictions(cfg: CfgNode, model: nn.Module, batches: Any) -> Iterator[str]:
    bare = unwrapped(model)
    if not hasattr(bare, "predict_raw"):
        return
    scores = _class_scores(bare, batches)
    best, found = scores[..., :-1].max(-1)
    threshold = cfg.MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD
    wins = scores.argmax(-1) < scores.shape[-1] - 1
    where = f"on {len(scores)} images"
    if not wins.any():
        yield (
            f'Every query says "no object" {where}; the highest score of a class is {best.max():.2f}. The network has '
            "not learnt to find anything yet."
        )
    elif cfg.MODEL.MASK_FORMER.TEST.PANOPTIC_ON and not (wins & (best > threshold)).any():
        yield (
            f"No segment is kept {where}: the highest score of a class is {best.max():.2f}, and "
            f"MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD is {threshold}. A lower one shows what was found."
        )
    elif len(classes := found[wins].unique().tolist()) == 1 and scores.shape[-1] > 2:
        yield f"All that is found {where} is of class {classes[0]}. Are the classes of the annotations right?"


def _class_scores(model: Any, batches: Any) -> Tensor:
    """Return the class scores [images, Q, K + 1] of a few images."""
    training = model.training
    model.eval()
    found: list[Tensor] = []
    with torch.no_grad():
        for batch in batches:
            for one in batch:
                found += model.predict_raw([one])[0].class_logits.float().softmax(-1).cpu().unbind()
            if len(found) >= LOOKED_AT:
                break
    model.train(training)
    return torch.stack(found)


def _length(cfg: CfgNode, shown: float, matched: str) -> Iterator[str]:
    if shown < LEAST_SHOWN:
        begun = f"It began with {cfg.MODEL.WEIGHTS} ({matched})" if matched else "It began with random weights"
        yield (
            f"The training was short: {cfg.SOLVER.MAX_ITER} iterations are {shown:.1f} passes through the images. "
            f"{begun}. More iterations (SOLVER.MAX_ITER), or weights that were trained on similar images, help."
        )
