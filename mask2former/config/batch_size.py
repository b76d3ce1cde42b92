"""Adaptation of a configuration to another batch size."""

from collections.abc import Collection

from detectron2.config import CfgNode

_ITERATIONS = ("SOLVER.MAX_ITER", "SOLVER.STEPS", "SOLVER.WARMUP_ITERS", "SOLVER.CHECKPOINT_PERIOD", "TEST.EVAL_PERIOD")


def scale_to_batch(cfg: CfgNode, file_batch: int, given: Collection[str] = ()) -> str:
    """Scale ``SOLVER.BASE_LR`` by n / ``file_batch`` and numbers of iterations inversely, in place.

    n is ``SOLVER.IMS_PER_BATCH``. This is the linear rule (arXiv 1706.02677, section 2.1), by which training sees as
    many images as before. Detectron2's ``SOLVER.REFERENCE_WORLD_SIZE`` scales in the same way, but by the number of
    GPUs, and the batch too; it is left alone.

    Args:
        cfg: the configuration.
        file_batch: the ``SOLVER.IMS_PER_BATCH`` that the other values of ``cfg`` are for.
        given: keys that were set for this run, which are left as they are.

    Returns:
        A line for the log that lists the changes.
    """
    scale = cfg.SOLVER.IMS_PER_BATCH / file_batch
    changes = []
    for key in ("SOLVER.BASE_LR", *_ITERATIONS):
        node, name = cfg, key
        while "." in name:
            first, name = name.split(".", 1)
            node = node[first]
        before = node[name]
        if key in given or scale == 1:
            continue
        if key == "SOLVER.BASE_LR":
            node[name] = before * scale
        elif isinstance(before, tuple | list):
            node[name] = type(before)(_scaled(value, scale) for value in before)
        else:
            node[name] = _scaled(before, scale)
        if node[name] != before:
            changes.append(f"{key} {before} -> {node[name]}")
    return f"{cfg.SOLVER.IMS_PER_BATCH} images a step instead of {file_batch}: {', '.join(changes) or 'no change'}"


def _scaled(iterations: int, scale: float) -> int:
    """Scale a number of iterations to at least 1, but leave 0, which means "never"."""
    return max(1, round(iterations / scale)) if iterations > 0 else iterations
