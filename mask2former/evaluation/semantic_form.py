"""Which form of semantic results an evaluator accepts."""

from detectron2.evaluation import DatasetEvaluator


def accepts_label_maps(evaluator: DatasetEvaluator) -> bool:
    """Whether ``sem_seg`` may be labels [H, W] in place of scores [K, H, W].

    True if the evaluator's own class (not one that it inherits from, whose ``process`` it may have replaced) says so by
    an attribute ``accepts_label_maps``.
    """
    return "accepts_label_maps" in vars(type(evaluator)) and bool(getattr(evaluator, "accepts_label_maps", False))
