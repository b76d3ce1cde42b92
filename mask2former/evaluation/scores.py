"""The few scores that people compare, out of everything that the evaluators give."""

from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

# (task, metric) of Detectron2's evaluators -> the name that people use, in the order of telling.
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
    ("sem_seg", "IoU"): "mIoU",  # Cityscapes' name for it
    ("sem_seg", "pACC"): "pixel accuracy",
}


def summarize(results: Mapping[str, Any]) -> list[tuple[str, float]]:
    """(name, value in percent) of the main scores that ``results`` has.

    Args:
        results: {task: {metric: value}} as the evaluators give it, or {data set: that}; with data sets, a name is
            preceded by its data set's.
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
    """The same, for reading."""
    return tabulate(summarize(results), headers=("score", "percent"), tablefmt="simple", floatfmt=".2f")
