"""The form of semantic results that an evaluator accepts."""

from detectron2.evaluation import DatasetEvaluator


def accepts_label_maps(evaluator: DatasetEvaluator) -> bool:
    """Tell whether an evaluator accepts ``sem_seg_labels`` [H, W] in place of ``sem_seg`` scores [K, H, W].

    True if its own class sets the attribute ``accepts_label_maps``. An inherited attribute does not count, because the
    class may have overridden ``process``.
    """
    return "accepts_label_maps" in vars(type(evaluator)) and bool(getattr(evaluator, "accepts_label_maps", False))
