"""Keep what an evaluation has counted so far in files, so that an interrupted one can go on."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from mask2former.checkpoint.digest import weights_digest
from mask2former.files import write_text

logger = logging.getLogger(__name__)


@runtime_checkable
class KeepsCounts(Protocol):
    """An evaluator whose counts since ``reset`` can be written as JSON and added again."""

    def counts(self) -> dict[str, Any]: ...

    def add_counts(self, counts: Mapping[str, Any]) -> None: ...


class PartialEvaluator(DatasetEvaluator):
    """Evaluate as another evaluator does, and write its counts to a file every ``period`` images.

    Several runs may share ``folder``: each writes files of its own, and removes no others but those it went on from.

    Args:
        evaluator: called for everything; its report, if it makes one, shows the images of this run alone.
        scorers: the evaluators in it that count.
        folder: gets a folder for this fingerprint, with the files.
        fingerprint: of all that the counts depend on, in hexadecimal; files of another are not read.
        period: images between two files.
        resume: add what files of the same fingerprint hold; otherwise files of before are left alone.
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
        self.folder = Path(folder) / fingerprint[:16]
        self.fingerprint = fingerprint
        self.period = period
        self._files: set[Path] = set()  # which this process removes at the end
        # One process reads, as another run may write or remove files meanwhile; it alone adds these counts.
        self._before = self._kept() if resume and comm.is_main_process() else []
        done = {place for content in self._before for place in content["places"]}
        self._done, self._token = comm.all_gather((done, secrets.token_hex(4)))[0]
        # What this run has counted stays in memory: its files may vanish, where another run went on from them.
        self._texts: dict[Path, str] = {}
        self._pending: dict[Path, int] = {}  # files that are still to be written, with their numbers of images
        self._warned = False
        self._places: Sequence[int] = ()
        self._images = self._noted = 0

    def remaining(self, loader: DataLoader) -> DataLoader:
        """Return a loader of this process's share of the images that are not done yet.

        Args:
            loader: of map-style data; all processes call this with theirs.
        """
        everything = list(itertools.chain(*comm.all_gather(list(loader.sampler))))
        todo = [place for place in everything if place not in self._done]
        share, rest = divmod(len(todo), comm.get_world_size())
        begin = comm.get_rank() * share + min(comm.get_rank(), rest)
        self._places = todo[begin : begin + share + (comm.get_rank() < rest)]
        if done := len(everything) - len(todo):
            logger.warning(
                "Going on with an interrupted evaluation: %d of %d images (%.0f %%) are done, by %s. A report shows "
                "only the other images; the scores are of all.",
                *(done, len(everything), 100 * done / len(everything), self.folder),
            )
        return DataLoader(
            loader.dataset,
            batch_size=loader.batch_size,
            sampler=self._places,
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory,
            timeout=loader.timeout,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context,
            generator=loader.generator,
            prefetch_factor=loader.prefetch_factor,
            persistent_workers=loader.persistent_workers,
            in_order=loader.in_order,
        )

    def reset(self) -> None:
        self.evaluator.reset()
        self._texts.clear()
        self._pending.clear()
        self._images = self._noted = 0

    def process(self, inputs: Any, outputs: Any) -> None:
        self.evaluator.process(inputs, outputs)
        self._images += len(inputs)
        if self._images - self._noted >= self.period:
            self.flush()

    def flush(self) -> None:
        """Write what was counted since the last file, which the scorers then forget until :meth:`evaluate`.

        What cannot be written (a full disk) stays in memory, is said once, and is tried again the next time.
        """
        places = list(self._places[self._noted : self._images])
        if places:
            counts = [scorer.counts() for scorer in self.scorers]
            file = self.folder / f"{self._token}-{places[0]:08d}-{places[-1]:08d}.json"
            self._texts[file] = json.dumps({"fingerprint": self.fingerprint, "places": places, "counts": counts})
            self._pending[file] = len(places)
            self._noted = self._images
            for scorer in self.scorers:
                scorer.reset()  # type: ignore[attr-defined]
        try:
            for file in list(self._pending):
                self.folder.mkdir(parents=True, exist_ok=True)
                self._files.add(write_text(file, self._texts[file]))
                del self._pending[file]
        except OSError as error:
            if not self._warned:
                logger.warning(
                    "Cannot keep what was evaluated in %s (%s). The evaluation goes on, but what is not kept has to be "
                    "evaluated again if it is interrupted; make room, and it is kept later.",
                    *(self.folder, error),
                )
            self._warned = True

    @property
    def share(self) -> str:
        """How much is done and kept, in words."""
        done, total = len(self._done), len(self._done) + len(self._places)
        kept = done + self._noted - sum(self._pending.values())
        return f"{kept} of {total} images ({100 * kept / max(total, 1):.0f} %)"

    def evaluate(self) -> Any:
        """Add all counts, of before and of now, and return the evaluator's scores; then remove the files."""
        self.flush()
        for content in itertools.chain(self._before, map(json.loads, self._texts.values())):
            for scorer, counts in zip(self.scorers, content["counts"], strict=True):
                scorer.add_counts(counts)
        results = self.evaluator.evaluate()
        comm.synchronize()  # all have their scores before one removes
        for file in self._files:
            file.unlink(missing_ok=True)
        for folder in (self.folder, self.folder.parent):
            with contextlib.suppress(OSError):  # not there, or not empty: another process or run has files in it
                folder.rmdir()
        return results

    def _kept(self) -> list[dict[str, Any]]:
        """Return the contents of files of this fingerprint, each image in one of them; the files are removed later."""
        runs: dict[str, list[dict[str, Any]]] = defaultdict(list)
        files = sorted(self.folder.glob("*.json"))
        for file in files:
            try:
                content = json.loads(file.read_text(encoding="utf-8"))
                fits = content["fingerprint"] == self.fingerprint and len(content["counts"]) == len(self.scorers)
                content["places"] = [int(place) for place in content["places"]]
            except (OSError, ValueError, KeyError, TypeError) as error:
                logger.warning(
                    "%s is left out, and its images are evaluated again: it is damaged, or not of an evaluation "
                    "(%s: %s). It can be removed.",
                    *(file, type(error).__name__, error),
                )
                continue
            if fits:
                runs[file.name.partition("-")[0]].append(content)
                self._files.add(file)
        if not files and (others := len(list(self.folder.parent.rglob("*.json")))):
            logger.warning(
                "%s has %d files of other weights, settings or data: the evaluation starts from the beginning.",
                *(self.folder.parent, others),
            )
        contents, seen = [], set[int]()
        # Several runs may have evaluated the same images: first comes the one that got furthest.
        for run in sorted(runs.values(), key=lambda run: -sum(len(content["places"]) for content in run)):
            for content in run:
                if seen.isdisjoint(content["places"]):
                    contents.append(content)
                    seen.update(content["places"])
        return contents


def can_go_on(loader: Any, scorers: Sequence[Any]) -> bool:
    """Tell whether an evaluation can be kept: all scorers write their counts, and the data can begin anywhere."""
    known = isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)
    return known and loader.batch_size is not None and all(isinstance(one, KeepsCounts) for one in scorers)


def fingerprint_of(model: nn.Module, settings: str, images: int) -> str:
    """Return a digest of the weights' bytes, the settings and the number of images."""
    return hashlib.sha256(f"{settings}\n{images}\n{weights_digest(model)}".encode()).hexdigest()
