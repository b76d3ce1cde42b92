"""Which form of semantic results an evaluator accepts."""

from detectron2.evaluation import DatasetEvaluator


def accepts_label_maps(evaluator: DatasetEvaluator) -> bool:
    """Tell whether it reads ``sem_seg_labels`` [H, W] where the model gives no ``sem_seg`` scores [K, H, W].

    True if the evaluator's own class (not one that it inherits from, whose ``process`` it may have replaced) says so by
    an attribute ``accepts_label_maps``.
    """
    return "accepts_label_maps" in vars(type(evaluator)) and bool(getattr(evaluator, "accepts_label_maps", False))
