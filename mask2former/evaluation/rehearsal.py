"""Try an evaluation on one image and a made-up prediction, to find before a training what would end it after."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from detectron2.evaluation import DatasetEvaluator

from mask2former.data.images.read import file_size

Record = Mapping[str, Any]


@runtime_checkable
class Rehearses(Protocol):
    """An evaluator that can be tried."""

    on_image: Any

    def reset(self) -> None: ...

    def rehearse(self, records: Sequence[Record]) -> None:
        """Score a made-up prediction of one of the records; raise ValueError if the ground truth does not allow it.

        It takes part in no communication between processes, and writes no file.
        """


def rehearse(evaluator: DatasetEvaluator, load: Callable[[], Sequence[Record]]) -> None:
    """Try an evaluator, or each of several, on one image; those that are not of this package are left out.

    Args:
        evaluator: of :func:`mask2former.evaluation.build_evaluator`, with or without a report.
        load: returns the records of the data set; not called if there is nothing to try.

    Raises:
        Exception: whatever would end the evaluation; the message names file and image.
    """
    bare = getattr(evaluator, "scorers", evaluator)  # that which a report is around
    members = [member for member in getattr(bare, "members", (bare,)) if isinstance(member, Rehearses)]
    records = load() if members else ()
    for member in members if records else ():
        on_image, member.on_image = member.on_image, None
        member.reset()
        try:
            member.rehearse(records)
        finally:
            member.on_image = on_image
            member.reset()


def size_of(record: Record) -> tuple[int, int]:
    """Return (H, W) of a record's image: that of its results."""
    if record.get("height") and record.get("width"):
        return record["height"], record["width"]
    return file_size(record["file_name"])
