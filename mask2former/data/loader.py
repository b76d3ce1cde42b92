"""The stream of training images, which can begin anywhere: a resumed training goes on with the image that was next."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import random
import signal
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from detectron2.utils.serialize import PicklableWrapper
from torch.utils.data import DataLoader, Dataset, IterableDataset

from mask2former.data.progressive import Stage, build_stages, stage_at
from mask2former.data.repeat_factors import repeat_factors
from mask2former.seeds import image_seeds

logger = logging.getLogger(__name__)

# Position in the stream of all processes, index in the data set, and size of the image (INPUT.PROGRESSIVE).
Place = tuple[int, int, float]
MakeSampler = Callable[[int], Iterable[int]]  # seed -> an endless stream of indices, of this process


class TrainLoader:
    """An endless stream of batches, lists of mapped data set dicts, of this process.

    What comes, and how it is augmented, depends on the seed and the position alone: not on the number of workers, on
    what they have prefetched, or on where the training began.

    Args:
        dataset: map-style; gives data set dicts.
        mapper: data set dict -> what the model reads, or None, in place of which another image is taken.
        make_sampler: from a seed; samplers of Detectron2 skip what other processes get.
        batch_size: images of this process in a batch.
        stages: sizes of images and batches (of all processes together) by the number of the batch; the mapper needs a
            method ``at_size(size)`` then. (): all are of ``batch_size``, and of the mapper's own size.
        num_workers: worker processes; 0: the images are read by this one.
        groups: a group for each index of the data set; a batch is of one group. None: there is one.
        collate: list of mapped dicts -> batch; None: that list.

    Attributes:
        seed: of the order and of the augmentations.
        start: number of batches that are left out at the beginning. Both count when the first batch is asked for.
    """

    def __init__(
        self,
        dataset: Dataset,
        mapper: Callable[[dict[str, Any]], Any],
        make_sampler: MakeSampler,
        *,
        batch_size: int,
        stages: Sequence[Stage] = (),
        num_workers: int = 0,
        groups: Sequence[int] | None = None,
        collate: Callable[[list[Any]], Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.dataset = dataset
        self.mapper = mapper
        self.make_sampler = make_sampler
        self.batch_size = batch_size
        self.stages = tuple(stages)
        self.num_workers = num_workers
        self.groups = groups
        self.collate = collate
        self.seed = seed
        self.start = 0
        self._streams: weakref.WeakSet[_Stream] = weakref.WeakSet()

    def __iter__(self) -> _Stream:
        stream = _Stream(self)
        self._streams.add(stream)
        return stream

    def from_batch(self, number: int) -> Iterator[Any]:
        """Start the workers, and return an iterator whose first batch is the one of this number."""
        return iter(
            DataLoader(
                _SeededImages(self.dataset, self.mapper, self.seed, [stage.size for stage in self.stages]),
                batch_sampler=itertools.islice(self.batches(), number, None),
                num_workers=self.num_workers,
                collate_fn=self.collate or _as_list,
                # Batches are whole here, where Detectron2's workers fetch image by image.
                prefetch_factor=1 if self.num_workers > 1 else None,
                worker_init_fn=leave_signals_to_the_parent,
            )
        )

    def close(self) -> None:
        """End the workers. Iterators go on with the next batch all the same if they are asked for one, with others."""
        for stream in self._streams:
            stream.close()

    def batches(self) -> Iterator[list[Place]]:
        """Yield the places of each batch of this process, from the very first one."""
        rank, processes = comm.get_rank(), comm.get_world_size()
        waiting: dict[int, list[tuple[int, int]]] = {}
        batches = 0
        stage = self._stage(batches, processes)
        for number, index in enumerate(self.make_sampler(self.seed)):
            batch = waiting.setdefault(self.groups[index] if self.groups else 0, [])
            batch.append((number * processes + rank, index))
            while len(batch) >= stage.batch:  # more than that wait where a stage of smaller batches has begun
                yield [(*place, stage.size) for place in batch[: stage.batch]]
                del batch[: stage.batch]
                batches += 1
                stage = self._stage(batches, processes)

    def _stage(self, batch: int, processes: int) -> Stage:
        """Return the stage of a batch, with this process's number of images."""
        if not self.stages:
            return Stage(0, 1.0, self.batch_size)
        stage = stage_at(self.stages, batch)
        return stage._replace(batch=stage.batch // processes)


class _Stream(Iterator[Any]):
    """Batches one after the other; the workers start when the first one is asked for."""

    def __init__(self, loader: TrainLoader) -> None:
        self._loader = loader
        self._next: int | None = None
        self._running: Iterator[Any] | None = None

    def __next__(self) -> Any:
        if self._next is None:
            self._next = self._loader.start
        if self._running is None:
            self._running = self._loader.from_batch(self._next)
        batch = next(self._running)
        self._next += 1
        return batch

    def close(self) -> None:
        self._running = None


class _SeededImages(Dataset):
    """Map-style data set over places of the stream."""

    def __init__(self, dataset: Dataset, mapper: Any, seed: int, sizes: Sequence[float] = ()) -> None:
        self._dataset = dataset
        others = {size: mapper.at_size(size) for size in sizes if size != 1}
        self._mappers = {size: PicklableWrapper(one) for size, one in {1.0: mapper, **others}.items()}
        self._seed = seed

    def __getitem__(self, place: Place) -> Any:
        position, index, size = place
        with image_seeds(self._seed, position):
            substitutes = random.Random(random.getrandbits(32))
            for _ in range(1000):
                mapped = self._mappers[size](self._dataset[index])
                if mapped is not None:
                    return mapped
                index = substitutes.randrange(len(self._dataset))  # type: ignore[arg-type]
        raise ValueError("The mapper returned None for 1000 images in a row: it skips nearly the whole data set.")


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


def _as_list(batch: list[Any]) -> list[Any]:
    return batch


def leave_signals_to_the_parent(worker: int) -> None:
    """Keep a worker at work when a terminal or a scheduler signals all processes: the parent still needs its images."""
    for name in ("SIGINT", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # Linux
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        parent = multiprocessing.parent_process()  # getppid would be the server's, where workers come from one
        told_by = os.getppid() if parent is None or parent.pid is None else parent.pid
        threading.Thread(target=_end_when_told_by, args=(told_by,), daemon=True).start()


def _end_when_told_by(parent: int) -> None:
    """End this process at a SIGTERM of its parent, by which PyTorch ends workers; ignore those of a scheduler."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(128 + signal.SIGTERM)
