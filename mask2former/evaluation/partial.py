"""Keep what an evaluation has counted so far in files, so that an interrupted one can go on."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from mask2former.files import write_text

logger = logging.getLogger(__name__)


@runtime_checkable
class KeepsCounts(Protocol):
    """An evaluator whose counts since ``reset`` can be written as JSON and added again."""

    def counts(self) -> dict[str, Any]: ...

    def add_counts(self, counts: Mapping[str, Any]) -> None: ...


class PartialEvaluator(DatasetEvaluator):
    """Evaluate as another evaluator does, and write its counts to a file every ``period`` images.

    Args:
        evaluator: called for everything; its report, if it makes one, shows the images of this run alone.
        scorers: the evaluators in it that count.
        folder: for the files.
        fingerprint: of all that the counts depend on; files of another are not read.
        period: images between two files.
        resume: add what files of the same fingerprint hold; otherwise files of before are removed.
    """

    def __init__(
        self,
        evaluator: DatasetEvaluator,
        scorers: Sequence[KeepsCounts],
        folder: str | Path,
        *,
        fingerprint: str,
        period: int,
        resume: bool,
    ) -> None:
        self.evaluator = evaluator
        self.scorers = scorers
        self.folder = Path(folder)
        self.fingerprint = fingerprint
        self.period = period
        self._before = self._kept(resume)
        self._written: list[dict[str, Any]] = []
        self._places: Sequence[int] = ()
        self._images = self._noted = 0

    def remaining(self, loader: DataLoader) -> DataLoader:
        """Return a loader of this process's share of the images that are not done yet.

        Args:
            loader: of map-style data; all processes call this with theirs.
        """
        everything = list(itertools.chain(*comm.all_gather(list(loader.sampler))))
        done = {place for content in self._before for place in content["places"]}
        todo = [place for place in everything if place not in done]
        share, rest = divmod(len(todo), comm.get_world_size())
        begin = comm.get_rank() * share + min(comm.get_rank(), rest)
        self._places = todo[begin : begin + share + (comm.get_rank() < rest)]
        if done:
            logger.warning(
                "Going on with an interrupted evaluation: %d of %d images (%.0f %%) are done, by %s. A report shows "
                "only the other images; the scores are of all.",
                *(len(done), len(everything), 100 * len(done) / len(everything), self.folder),
            )
        return DataLoader(
            loader.dataset,
            batch_size=loader.batch_size,
            sampler=self._places,
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
        )

    def reset(self) -> None:
        self.evaluator.reset()
        self._images = self._noted = 0

    def process(self, inputs: Any, outputs: Any) -> None:
        self.evaluator.process(inputs, outputs)
        self._images += len(inputs)
        if self._images - self._noted >= self.period:
            self.flush()

    def flush(self) -> None:
        """Write what was counted since the last file, which the scorers then forget until :meth:`evaluate`."""
        places = list(self._places[self._noted : self._images])
        if not places:
            return
        content = {
            "fingerprint": self.fingerprint,
            "places": places,
            "counts": [scorer.counts() for scorer in self.scorers],
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{self.fingerprint[:8]}-{places[0]:08d}-{places[-1]:08d}.json"
        self._written.append({"file": write_text(self.folder / name, json.dumps(content))})
        self._noted = self._images
        for scorer in self.scorers:
            scorer.reset()  # type: ignore[attr-defined]

    @property
    def share(self) -> str:
        """How much is done and kept, in words."""
        done = sum(len(content["places"]) for content in self._before)
        total = done + len(self._places)
        return f"{done + self._noted} of {total} images ({100 * (done + self._noted) / max(total, 1):.0f} %)"

    def evaluate(self) -> Any:
        """Add all counts, of before and of now, and return the evaluator's scores; then remove the files."""
        self.flush()
        own = [json.loads(content["file"].read_text(encoding="utf-8")) for content in self._written]
        for content in [*(self._before if comm.is_main_process() else []), *own]:
            for scorer, counts in zip(self.scorers, content["counts"], strict=True):
                scorer.add_counts(counts)
        results = self.evaluator.evaluate()
        comm.synchronize()
        if comm.is_main_process():
            self._remove(self.folder.glob("*.json"))
        return results

    def _kept(self, resume: bool) -> list[dict[str, Any]]:
        contents, others = [], []
        for file in sorted(self.folder.glob("*.json")):
            content = json.loads(file.read_text(encoding="utf-8"))
            fits = resume and content["fingerprint"] == self.fingerprint
            contents.append(content) if fits else others.append(file)
        comm.synchronize()  # all have read before one removes
        if others and comm.is_main_process():
            if resume:
                logger.warning(
                    "%s has %d files of other weights, settings or data: the evaluation starts from the beginning.",
                    *(self.folder, len(others)),
                )
            self._remove(others)
        return contents

    def _remove(self, files: Any) -> None:
        for file in files:
            file.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


def can_go_on(loader: Any, scorers: Sequence[Any]) -> bool:
    """Tell whether an evaluation can be kept: all scorers write their counts, and the data can begin anywhere."""
    known = isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)
    return known and loader.batch_size is not None and all(isinstance(one, KeepsCounts) for one in scorers)


def fingerprint_of(model: nn.Module, settings: str, images: int) -> str:
    """Return a digest of the weights' bytes, the settings and the number of images."""
    digest = hashlib.sha256(f"{settings}\n{images}".encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()
