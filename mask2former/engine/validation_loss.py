"""The loss on validation images, to be drawn beside that of the training."""

from __future__ import annotations

import contextlib
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.data import transforms as T
from detectron2.utils import comm
from torch import nn

from mask2former.data.mapper import Mapper, build_mapper
from mask2former.data.mapper.augmentation import ResizeShortestEdge
from mask2former.data.mapper.bad_images import BadImages, InPlaceOfBad
from mask2former.modeling.meta_arch import unwrapped
from mask2former.seeds import image_seeds


class ValidationLoss:
    """Compute the training's loss on images of the first data set of ``DATASETS.TEST``, not augmented, at test size.

    Nothing of the training changes: there are no gradients, layers act as in evaluation (running statistics, dropout),
    and random numbers are put back. Points are drawn alike each time, so that values can be compared.

    Args:
        cfg: the configuration; ``TEST.LOSS_IMAGES`` are taken at most, evenly spaced, the same number by each process.
        model: in ``DistributedDataParallel`` or not.
        precision: makes the context of a forward pass.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module, precision: Callable[[], AbstractContextManager]) -> None:
        self._model = unwrapped(model)
        self._precision = precision
        records = DatasetCatalog.get(cfg.DATASETS.TEST[0])
        processes, rank = comm.get_world_size(), comm.get_rank()
        count = min(cfg.TEST.LOSS_IMAGES, len(records)) // processes * processes
        if not count:
            raise ValueError(f"TEST.LOSS_IMAGES: {cfg.DATASETS.TEST[0]} has {len(records)} images; set it to 0.")
        self._records = [records[place * len(records) // count] for place in range(rank, count, processes)]
        mapper = build_mapper(cfg, True, cfg.DATASETS.TEST[:1])
        if isinstance(mapper, Mapper):
            mapper.augmentations = T.AugmentationList(
                [ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)]
            )
            mapper.copy_paste = None
        else:  # classes of whole images, which it gives in tests too
            mapper = build_mapper(cfg, False, cfg.DATASETS.TEST[:1])
        bad = BadImages.from_config(cfg)
        self._mapped = mapper if bad is None else InPlaceOfBad(mapper, records, bad)
        try:
            self._mapped(self._records[0])
        except ValueError as error:
            raise ValueError(f"{error} It is read for TEST.LOSS_IMAGES; 0 leaves the validation loss out.") from error

    def __call__(self) -> dict[str, float]:
        """Return ``validation_loss``, the sum, and its parts of the last layer (``validation_loss_ce`` ...)."""
        values: dict[str, list[float]] = defaultdict(list)
        with _giving_losses(self._model), torch.no_grad(), torch.random.fork_rng(), self._precision():
            for place, record in enumerate(self._records):
                with image_seeds(0, place):
                    torch.manual_seed(place)
                    losses = {name: float(loss) for name, loss in self._model([self._mapped(record)]).items()}
                for name, loss in losses.items():
                    if not name.rsplit("_", 1)[-1].isdigit():
                        values[f"validation_{name}"].append(loss)
                values["validation_loss"].append(sum(losses.values()))
        means = {name: statistics.fmean(numbers) for name, numbers in values.items()}
        parts = comm.all_gather(means)
        return {name: statistics.fmean(part[name] for part in parts) for name in means}


@contextlib.contextmanager
def _giving_losses(model: nn.Module) -> Iterator[None]:
    """Let a model return losses while its layers act as in evaluation."""
    before = {module: module.training for module in model.modules()}
    model.eval()
    for module in (model, getattr(model, "sem_seg_head", None)):  # they choose between losses and results
        if module is not None:
            module.training = True
    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training
