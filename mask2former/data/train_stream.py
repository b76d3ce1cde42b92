"""The stream of training images, which can begin anywhere: a resumed training goes on with the image that was next."""

from __future__ import annotations

import itertools
import random
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from detectron2.utils import comm
from detectron2.utils.serialize import PicklableWrapper
from torch.utils.data import DataLoader, Dataset

from mask2former.data.progressive import Stage, stage_at
from mask2former.data.worker_signals import leave_signals_to_the_parent
from mask2former.seeds import image_seeds

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


def _as_list(batch: list[Any]) -> list[Any]:
    return batch
