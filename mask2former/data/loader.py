"""The loaders of training and evaluation, built from a configuration as Detectron2 builds its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import (
    DatasetCatalog,
    DatasetFromList,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.data.samplers import RandomSubsetTrainingSampler, RepeatFactorTrainingSampler, TrainingSampler
from detectron2.utils import comm
from torch.utils.data import IterableDataset

from mask2former.data.progressive import build_stages
from mask2former.data.repeat_factors import repeat_factors
from mask2former.data.train_stream import MakeSampler, TrainLoader

logger = logging.getLogger(__name__)


def build_train_loader(
    cfg: CfgNode,
    mapper: Callable[[dict[str, Any]], Any],
    *,
    dataset: Any = None,
    sampler: Iterable[int] | None = None,
    collate_fn: Callable[[list[Any]], Any] | None = None,
) -> Iterable:
    """Build the loader as Detectron2's ``build_detection_train_loader`` does, but able to resume.

    ``DATALOADER.SAMPLER_TRAIN``, ``ASPECT_RATIO_GROUPING``, ``REPEAT_THRESHOLD``, ``FILTER_EMPTY_ANNOTATIONS`` and
    ``NUM_WORKERS`` mean what they mean there. Other samplers' names and iterable data sets go to Detectron2's own
    function, whose loader begins anew when a training resumes.

    Args:
        cfg: the configuration; ``SEED`` below 0 chooses one at random.
        mapper: see :class:`TrainLoader`.
        dataset: list of data set dicts, or a data set of PyTorch; None: ``DATASETS.TRAIN``.
        sampler: an endless stream of indices of this process; it has to be the same one each time that the training
            resumes. None: ``DATALOADER.SAMPLER_TRAIN``.
        collate_fn: see :class:`TrainLoader`.
    """
    records = training_records(cfg) if dataset is None else dataset
    if isinstance(records, list) and hasattr(mapper, "with_donors"):
        # Drawn by the image's own seed, so that donors are the same whatever the number of workers.
        mapper = mapper.with_donors(DatasetFromList(records, copy=False))
    choose: MakeSampler | None = None
    if not isinstance(records, IterableDataset):
        choose = _sampler_by_name(cfg, records) if sampler is None else lambda seed: sampler
    stages = build_stages(cfg) if cfg.INPUT.PROGRESSIVE.ENABLED else ()
    if stages and (choose is None or not hasattr(mapper, "at_size")):
        raise ValueError(
            "INPUT.PROGRESSIVE needs a sampler and a data set that begin anywhere, and a mapper with a method "
            f"at_size(size), as mask2former.data.mapper.Mapper has; found {type(mapper).__name__} and "
            f"DATALOADER.SAMPLER_TRAIN {cfg.DATALOADER.SAMPLER_TRAIN}."
        )
    if choose is None:
        # Detectron2's release knows no collate_fn; it says so itself.
        collate = {} if collate_fn is None else {"collate_fn": collate_fn}
        return build_detection_train_loader(cfg, mapper=mapper, dataset=dataset, sampler=sampler, **collate)
    processes = comm.get_world_size()
    if cfg.SOLVER.IMS_PER_BATCH % processes:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}, not a multiple of the {processes} processes."
        )
    logger.debug("Training sampler: %s.", cfg.DATALOADER.SAMPLER_TRAIN if sampler is None else type(sampler).__name__)
    return TrainLoader(
        DatasetFromList(records, copy=False) if isinstance(records, list) else records,
        mapper,
        choose,
        batch_size=cfg.SOLVER.IMS_PER_BATCH // processes,
        stages=stages,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        groups=_shapes(records) if cfg.DATALOADER.ASPECT_RATIO_GROUPING else None,
        collate=collate_fn,
        seed=run_seed(cfg),
    )


def run_seed(cfg: CfgNode) -> int:
    """Return ``SEED``, or, if that is below 0, a random one that all processes share."""
    return cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()


def build_test_loader(cfg: CfgNode, name: str, mapper: Callable[[dict[str, Any]], Any]) -> Iterable:
    """Build the loader of a data set as Detectron2's ``build_detection_test_loader`` does, for videos too."""
    if not (videos := _videos([name])):
        return build_detection_test_loader(cfg, name, mapper=mapper)
    return build_detection_test_loader(videos, mapper=mapper, num_workers=cfg.DATALOADER.NUM_WORKERS)


def training_records(cfg: CfgNode) -> list[Any]:
    """Return the records of all sets of ``DATASETS.TRAIN``, without empty ones if FILTER_EMPTY_ANNOTATIONS."""
    if videos := _videos(cfg.DATASETS.TRAIN):
        if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
            videos = [one for one in videos if any(_shows_something(frame) for frame in one.get("annotations", ()))]
        if not videos:
            raise ValueError(f"DATASETS.TRAIN {list(cfg.DATASETS.TRAIN)} have no video with annotations.")
        return videos
    keypoints = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON else 0
    return get_detection_dataset_dicts(
        cfg.DATASETS.TRAIN,
        filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
        min_keypoints=keypoints,
        proposal_files=cfg.DATASETS.PROPOSAL_FILES_TRAIN if cfg.MODEL.LOAD_PROPOSALS else None,
    )


def _videos(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the records of sets of videos, whose annotations Detectron2 cannot read; none if they are of images."""
    kinds = [MetadataCatalog.get(name).get("evaluator_type") for name in names]
    if "ytvis" not in kinds:
        return []
    return [record for name in names for record in DatasetCatalog.get(name)]


def _shows_something(annotations: Sequence[dict[str, Any]]) -> bool:
    return any(not one.get("iscrowd") for one in annotations)


def _sampler_by_name(cfg: CfgNode, records: Any) -> MakeSampler | None:
    name, size = cfg.DATALOADER.SAMPLER_TRAIN, len(records)
    if name == "TrainingSampler":
        return lambda seed: TrainingSampler(size, seed=seed)
    if name == "RepeatFactorTrainingSampler":
        # The main branch has a second rule.
        rule = {"sqrt": cfg.DATALOADER.REPEAT_SQRT} if "REPEAT_SQRT" in cfg.DATALOADER else {}
        ignored = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
        factors = repeat_factors(records, cfg.DATALOADER.REPEAT_THRESHOLD, ignore_label=ignored, **rule)
        return lambda seed: RepeatFactorTrainingSampler(factors, seed=seed)
    if name == "RandomSubsetTrainingSampler":
        ratio = cfg.DATALOADER.RANDOM_SUBSET_RATIO
        return lambda seed: RandomSubsetTrainingSampler(size, ratio, seed_shuffle=seed, seed_subset=seed)
    return None


def _shapes(records: Any) -> list[int] | None:
    """Return 1 for images wider than high, else 0; None if some have no size, so that they cannot be told apart."""
    if not isinstance(records, list) or not all("width" in one and "height" in one for one in records):
        logger.info("DATALOADER.ASPECT_RATIO_GROUPING is ignored, because some images have no width or height.")
        return None
    return [int(one["width"] > one["height"]) for one in records]
