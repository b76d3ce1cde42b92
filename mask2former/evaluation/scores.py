"""Select the few scores that people compare from all that the evaluators return."""

from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

# (task, metric) of Detectron2's evaluators -> the usual name, in the order in which scores are shown.
HEADLINES = {
    ("panoptic_seg", "PQ"): "PQ",
    ("panoptic_seg", "PQ_th"): "PQ of things",
    ("panoptic_seg", "PQ_st"): "PQ of stuff",
    ("panoptic_seg_semantic", "PQ"): "PQ of semantic",
    ("segm", "AP"): "mask AP",
    ("segm", "AP50"): "mask AP50",
    ("boundary", "AP"): "boundary AP",
    ("bbox", "AP"): "box AP",
    ("sem_seg", "mIoU"): "mIoU",
    ("sem_seg", "IoU"): "mIoU",  # named so by the Cityscapes evaluator
    ("sem_seg", "pACC"): "pixel accuracy",
    ("classification", "top1"): "top-1 accuracy",
    ("classification", "top5"): "top-5 accuracy",
}


def summarize(results: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Return (name, value in percent) of the main scores in ``results``.

    Args:
        results: {task: {metric: value}} as the evaluators return it, or {data set: that}; then names are preceded by
            those of the data sets.
    """
    if any(isinstance(value, Mapping) for scores in results.values() for value in scores.values()):
        return [
            (f"{dataset}: {name}", value) for dataset, scores in results.items() for name, value in summarize(scores)
        ]
    return [
        (name, float(results[task][metric]))
        for (task, metric), name in HEADLINES.items()
        if metric in results.get(task, {})
    ]


def score_table(results: Mapping[str, Any]) -> str:
    """Return the main scores as a table of text."""
    return tabulate(summarize(results), headers=("score", "percent"), tablefmt="simple", floatfmt=".2f")
