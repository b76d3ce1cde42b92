"""Which form of semantic results an evaluator accepts."""

from detectron2.evaluation import DatasetEvaluator


def takes_labels(evaluator: DatasetEvaluator) -> bool:
    """Whether ``sem_seg`` may be labels [H, W] in place of scores [K, H, W].

    True if the evaluator's own class (not one that it inherits from, whose ``process`` it may have replaced) says so by
    an attribute ``takes_labels``.
    """
    return "takes_labels" in vars(type(evaluator)) and bool(getattr(evaluator, "takes_labels", False))
