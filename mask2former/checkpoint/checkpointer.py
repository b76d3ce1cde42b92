"""Detectron2's checkpointer, extended to read weights of other formats without running code from files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mask2former.checkpoint.formats import UNKNOWN, to_ours
from mask2former.checkpoint.module_hook import check_images
from mask2former.checkpoint.report import LoadReport, compare
from mask2former.checkpoint.sharded import is_sharded, whole
from mask2former.checkpoint.weights_io import read
from mask2former.checkpoint.whole import TAG, newest_whole
from mask2former.files import whole_file, write_text
from mask2former.zoo import weights_file

AVERAGED = "averaged_model"  # key of averaged weights, in the state of the hook that averages


def averaged_weights(checkpoint: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the averaged weights in a training's checkpoint; None if there are none."""
    place: Any = checkpoint
    for key in ("trainer", "hooks", "WeightAverageHook", AVERAGED):
        if not isinstance(place, Mapping) or key not in place:
            return None
        place = place[key]
    return place if isinstance(place, Mapping) else None


class MaskFormerCheckpointer(DetectionCheckpointer):
    """Checkpointer that recognises the format of weights from their names and converts them. It saves our names.

    Files are written whole or not at all, and resuming goes back to the newest whole checkpoint.

    Attributes:
        report: which weights of the last load were matched; None before.
        saved: name of the file that was saved last by this object; "" before.
    """

    report: LoadReport | None = None
    saved: str = ""
    _weights_alone = True

    def save(self, name: str, **kwargs: Any) -> None:
        """Save the model and everything that was added to ``name``.pth in the folder, and tag it as the last one.

        The file holds whole tensors, also of a model that is sharded, for which all processes have to call this.

        Raises:
            OSError: the disk is full, or the like; the message names the file, and the files of before are kept.
        """
        sharded = is_sharded(self.model)
        if not self.save_dir or not (self.save_to_disk or sharded):
            return
        state = {"model": self.model.state_dict()}
        state |= {key: one.state_dict() for key, one in self.checkpointables.items()} | kwargs
        if sharded:
            state = whole(state, keep=self.save_to_disk)
        if self.save_to_disk:
            self.tag_last_checkpoint(self._write(name, state))
        self.saved = f"{name}.pth"

    def save_weights(self, name: str, model: nn.Module) -> None:
        """Save the weights alone, for use; ``last_checkpoint`` goes on naming what a training can go on from.

        Args:
            name: of the file, without ``.pth``.
            model: has the weights; in ``DistributedDataParallel`` or not.

        Raises:
            OSError: as :meth:`save`.
        """
        if self.save_dir and self.save_to_disk:
            bare = model.module if isinstance(model, DistributedDataParallel) else model
            self._write(name, {"model": bare.state_dict()})

    def _write(self, name: str, state: dict[str, Any]) -> str:
        file = f"{name}.pth"
        if os.path.basename(file) != file:
            raise ValueError(f"The name of a checkpoint must not contain a folder; found {name!r}.")
        path = os.path.join(self.save_dir, file)
        self.logger.info("Saving checkpoint to %s", path)
        if self._is_remote():
            with self.path_manager.open(path, "wb") as out:
                torch.save(state, out)
        else:
            with whole_file(path) as out:
                torch.save(state, out)
        return file

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        if self._is_remote():
            super().tag_last_checkpoint(last_filename_basename)
        else:
            write_text(Path(self.save_dir, TAG), last_filename_basename)

    def has_checkpoint(self) -> bool:
        """Tell whether the folder holds a whole checkpoint to go on from."""
        return bool(self.get_checkpoint_file())

    def get_checkpoint_file(self) -> str:
        """Return the path of the newest whole checkpoint in the folder; "" if there is none."""
        if self._is_remote():
            return super().get_checkpoint_file() if super().has_checkpoint() else ""
        return str(newest_whole(self.save_dir) or "")

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Go on from the newest whole checkpoint in the folder if ``resume``; without one, load weights of ``path``."""
        if resume and (newest := self.get_checkpoint_file()):  # looked for once: every byte of it is checked
            return self.load(newest)
        return self.load(path, checkpointables=[])

    def _is_remote(self) -> bool:
        return "://" in self.save_dir

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load as Detectron2 does; ``path`` is empty or anything that :func:`mask2former.zoo.weights_file` takes.

        Where nothing but weights is loaded, so not to go on with a training, a checkpoint's averaged weights are taken
        if it has such (``SOLVER.EMA``).

        Raises:
            ValueError: the file holds more than weights, or nothing in it fits the model or a part of it.
        """
        self._weights_alone = not (self.checkpointables if checkpointables is None else checkpointables)
        return super().load(weights_file(path) if path else path, checkpointables)

    def _load_file(self, filename: str) -> dict[str, Any]:
        # A training's checkpoint has four times the weights: copied from the file, no second set of them is held. What
        # a training goes on from is read, since the optimiser keeps the tensors themselves.
        content = read(filename, self.path_manager.open, in_place=self._weights_alone)
        averaged = averaged_weights(content) if self._weights_alone else None
        if averaged is None:
            return content
        self.logger.info("The weights are the averaged ones of this checkpoint.")
        return {**content, "model": averaged}

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
