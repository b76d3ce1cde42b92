"""Detectron2's checkpointer, able to read published weights, and not to run code from files."""

from __future__ import annotations

from typing import Any

from detectron2.checkpoint import DetectionCheckpointer

from mask2former.checkpoint.formats import UNKNOWN, to_ours
from mask2former.checkpoint.report import LoadReport
from mask2former.checkpoint.weights_io import read
from mask2former.zoo import weights_file


class MaskFormerCheckpointer(DetectionCheckpointer):
    """Tells the format of weights from their names and converts them while loading. Saves under our names.

    Attributes:
        report: what became of the weights that were loaded last; None before.
    """

    report: LoadReport | None = None

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Detectron2's, where ``path`` is all that :func:`mask2former.zoo.weights_file` understands, or empty.

        Raises:
            ValueError: the file holds more than weights, or nothing in it fits the model.
        """
        return super().load(weights_file(path) if path else path, *args, **kwargs)

    def _load_file(self, filename: str) -> dict[str, Any]:
        return read(filename, self.path_manager.open)

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        format, checkpoint["model"] = to_ours(checkpoint["model"], self.model.state_dict())
        if format != UNKNOWN:  # Detectron2's matching of names by likeness is for those that no table has converted
            checkpoint.pop("matching_heuristics", None)
        # Frozen normalisation fills in statistics that a file lacks, and says nothing; so this looks for itself, where
        # Detectron2 does not match names by likeness.
        given = None if checkpoint.get("matching_heuristics") else set(checkpoint["model"])
        incompatible = super()._load_model(checkpoint)
        reshaped = {name for name, *_ in incompatible.incorrect_shapes}
        # The count of training steps is absent from weights of frozen normalisation, and nobody reads it.
        names = [name for name in self.model.state_dict() if not name.endswith("num_batches_tracked")]
        absent = set(incompatible.missing_keys) if given is None else set(names) - given
        missing = [name for name in names if name in absent]
        self.report = LoadReport(
            format=format,
            matched=len(set(names) - set(missing) - reshaped),
            total=len(names),
            reshaped=incompatible.incorrect_shapes,
            missing=[name for name in missing if name not in reshaped],
            left_over=incompatible.unexpected_keys,
        )
        if not self.report.matched and names:
            raise ValueError("Nothing in the file fits the model. " + " ".join(self.report.lines()[1:]))
        return incompatible

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        assert self.report is not None
        matched, *others = self.report.lines()
        self.logger.info(matched)
        for line in others:
            self.logger.warning(line)
