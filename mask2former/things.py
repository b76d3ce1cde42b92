"""Which classes are things."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog


def things_from_config(cfg: CfgNode, needed_by: str | None = None) -> frozenset[int]:
    """Return contiguous ids of things, from the first of the training, then test data sets that has them.

    Args:
        cfg: names the data sets.
        needed_by: what cannot be without; None: no things if no data set says.

    Raises:
        ValueError: no data set says, and they are needed.
    """
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    for name in names:
        contiguous = MetadataCatalog.get(name).get("thing_dataset_id_to_contiguous_id")
        if contiguous is not None:
            return frozenset(contiguous.values())
    if needed_by is not None:
        raise ValueError(
            f"{needed_by} needs to know which classes are things, but none of the data sets {names} is registered with "
            "`thing_dataset_id_to_contiguous_id`. Call mask2former.data.register_all(root) first, or name a registered "
            "data set in DATASETS.TRAIN."
        )
    return frozenset()
