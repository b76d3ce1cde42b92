"""The teacher: a trained model that answers and is no part of the student."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone, build_model
from torch import Tensor, nn
from typing_extensions import Self

from mask2former.checkpoint.checkpointer import MaskFormerCheckpointer
from mask2former.config.load import load_config
from mask2former.structures import MaskPrediction


class Teacher:
    """A frozen model, built when it is first asked, so that evaluation never builds it.

    It is no module: its weights are not among the student's parameters, nor in its checkpoints, and copies of the
    student share it. Building it draws no random numbers of the training.

    Args:
        build: builds the trained model.
        shapes: channels and strides of its backbone's features, by name.
        turn_channels: turn RGB images into BGR or the reverse, which the teacher was trained on.
    """

    def __init__(
        self, build: Callable[[], nn.Module], shapes: dict[str, ShapeSpec], *, turn_channels: bool = False
    ) -> None:
        self.shapes = shapes
        self.turn_channels = turn_channels
        self._build = build
        self._model: Any = None

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Teacher:
        """Read ``MODEL.DISTILLATION.TEACHER_CONFIG``; the weights are read when the teacher is built.

        Raises:
            ConfigError: the teacher's configuration is missing or wrong.
            ValueError: it has other classes than the student, or lacks the mask encoder that the student has.
        """
        node = cfg.MODEL.DISTILLATION
        if not node.TEACHER_CONFIG or not node.TEACHER_WEIGHTS:
            raise ValueError("MODEL.DISTILLATION needs TEACHER_CONFIG, a file, and TEACHER_WEIGHTS, trained with it.")
        own = {"MODEL.DEVICE": cfg.MODEL.DEVICE, "MODEL.WEIGHTS": node.TEACHER_WEIGHTS}
        own |= {"MODEL.DISTILLATION.ENABLED": "False", "MODEL.TIMM.PRETRAINED": "False", "MODEL.CHECKPOINT": "[]"}
        of_teacher = load_config(node.TEACHER_CONFIG, [word for pair in own.items() for word in pair])
        classes = [one.MODEL.SEM_SEG_HEAD.NUM_CLASSES for one in (cfg, of_teacher)]
        if classes[0] != classes[1]:
            raise ValueError(
                f"The teacher, {node.TEACHER_CONFIG}, has {classes[1]} classes, but the student has {classes[0]} "
                "(MODEL.SEM_SEG_HEAD.NUM_CLASSES). They have to be the same."
            )
        if cfg.MODEL.MASK_ENCODER.ENABLED and not of_teacher.MODEL.MASK_ENCODER.ENABLED:
            raise ValueError(
                f"The student has a MODEL.MASK_ENCODER, but its teacher, {node.TEACHER_CONFIG}, has none and would "
                "look for other objects. Train such a teacher first."
            )
        with torch.device("meta"):  # no weights and no random numbers
            shapes = build_backbone(of_teacher).output_shape()
        turn = cfg.INPUT.FORMAT != of_teacher.INPUT.FORMAT
        return cls(lambda: _trained(of_teacher), shapes, turn_channels=turn)

    def __call__(
        self, batched_inputs: list[dict[str, Any]], device: torch.device
    ) -> tuple[MaskPrediction, tuple[int, int]]:
        """Return the prediction, with the backbone's features in ``extras``, and the size of the padded images.

        Args:
            batched_inputs: those of the student; the teacher normalises and pads images in its own way.
            device: the student's.
        """
        model = self._built(device)
        images = [self._images_of(one) for one in batched_inputs]
        with torch.no_grad():
            prediction, batch = model.predict_raw(images)
        return prediction, batch.padded_size

    def state_dict(self, device: torch.device) -> dict[str, Tensor]:
        """Return the trained weights, by name, on the student's device."""
        return dict(self._built(device).state_dict())

    def _built(self, device: torch.device) -> Any:
        if self._model is None:
            # Without a list, it warns of every GPU of the machine, though one process uses one.
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                model: Any = self._build().eval().requires_grad_(False)
            model.keeps_features = True
            self._model = model.to(device)
        return self._model

    def _images_of(self, inputs: dict[str, Any]) -> dict[str, Any]:
        image = inputs["image"]
        if self.turn_channels:
            image = [frame.flip(0) for frame in image] if isinstance(image, list | tuple) else image.flip(0)
        mask = {"mask": inputs["mask"]} if "mask" in inputs and self._model.takes_masks else {}
        return {"image": image, **mask}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


def _trained(cfg: CfgNode) -> nn.Module:
    """Build a model and load its weights, all of them.

    Raises:
        ValueError: some are missing, so that it would teach noise.
    """
    model = build_model(cfg)
    checkpointer = MaskFormerCheckpointer(model)
    checkpointer.load(cfg.MODEL.WEIGHTS)
    report = checkpointer.report
    if report and (report.missing or report.reshaped):
        raise ValueError(
            f"MODEL.DISTILLATION.TEACHER_WEIGHTS {cfg.MODEL.WEIGHTS}: these are not the weights of the teacher's "
            f"configuration. {' '.join(report.lines()[:3])}"
        )
    return model
