"""Detectron2's checkpointer, extended to read weights of other formats without running code from files."""

from __future__ import annotations

from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts

from mask2former.checkpoint.formats import UNKNOWN, to_ours
from mask2former.checkpoint.module_hook import check_images
from mask2former.checkpoint.report import LoadReport, compare
from mask2former.checkpoint.weights_io import read
from mask2former.zoo import weights_file


class MaskFormerCheckpointer(DetectionCheckpointer):
    """Checkpointer that recognises the format of weights from their names and converts them. It saves our names.

    Attributes:
        report: which weights of the last load were matched; None before.
    """

    report: LoadReport | None = None

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load as Detectron2 does; ``path`` is empty or anything that :func:`mask2former.zoo.weights_file` takes.

        Raises:
            ValueError: the file holds more than weights, or nothing in it fits the model or a part of it.
        """
        return super().load(weights_file(path) if path else path, *args, **kwargs)

    def _load_file(self, filename: str) -> dict[str, Any]:
        return read(filename, self.path_manager.open)

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        # Convert before Detectron2 compares shapes by name; the model's own hook (module_hook.py) runs after that.
        model = self.model.state_dict()
        format, state = to_ours(checkpoint["model"], model)
        if checkpoint.pop("matching_heuristics", None) and format == UNKNOWN:  # no rules have converted the names
            state = align_and_update_state_dicts(model, state, c2_conversion=checkpoint.get("__author__") == "Caffe2")
        self.report = compare(format, state, model)
        self.report.check()
        check_images(self.model, format)
        return super()._load_model({**checkpoint, "model": state})

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        assert self.report is not None
        matched, *others = self.report.lines()
        self.logger.info(matched)
        for line in others:
            self.logger.warning(line)
