"""The losses of a student beside its teacher."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from mask2former.modeling.distillation.losses import class_loss, feature_loss, mask_loss, weighted_mean
from mask2former.modeling.distillation.teacher import Teacher
from mask2former.modeling.layers.point_sampling import sample_points
from mask2former.modeling.matcher import build_matcher
from mask2former.structures import MaskPrediction, MaskTargets, require_sigmoid

logger = logging.getLogger(__name__)
FEATURES = "features."  # before a feature's name, in a prediction's extras
_NOT_INHERITED = ("backbone.", "distillation.", "criterion.")


class Distillation(nn.Module):
    """Losses of features, class distributions and masks; a part whose weight is 0 is left out.

    Features are compared by stride, after a 1x1 convolution from the student's channels to the teacher's. Class
    distributions and masks are compared between queries that are matched once, by the matcher of the training: the
    teacher's last prediction is the ground truth for the student's.

    Args:
        teacher: answers for the student's images.
        matcher: assigns the student's queries to the teacher's.
        input_shape: the student's features.
        features, classes, masks: weights of the parts.
        temperature: softens class distributions.
        no_object_weight: weight of a query that the teacher holds for no object, where it holds others for one.
        num_points: points at which masks are compared.
        inherit: begin with what fits of the teacher's weights; see :meth:`begin`.

    Raises:
        ValueError: a temperature that is not above 0, or no stride that both have features of.
    """

    begun: Tensor

    @configurable
    def __init__(
        self,
        *,
        teacher: Teacher,
        matcher: nn.Module,
        input_shape: Mapping[str, ShapeSpec],
        features: float,
        classes: float,
        masks: float,
        temperature: float,
        no_object_weight: float,
        num_points: int,
        inherit: bool = False,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"MODEL.DISTILLATION.TEMPERATURE is {temperature}; it has to be above 0.")
        self.teacher = teacher
        self.matcher = matcher
        self.features, self.classes, self.masks = features, classes, masks
        self.temperature = temperature
        self.no_object_weight = no_object_weight
        self.num_points = num_points
        self._to_begin = inherit
        if inherit:  # in checkpoints, so that a training that goes on does not begin again
            self.register_buffer("begun", torch.tensor(False))
        self.pairs = _of_one_stride(input_shape, teacher.shapes)
        self.projections = nn.ModuleDict()
        if features > 0:
            for name, other in self.pairs.items():
                channels = input_shape[name].channels, teacher.shapes[other].channels
                self.projections[name] = _projection(*channels)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        node = cfg.MODEL.DISTILLATION
        return {
            "teacher": Teacher.from_config(cfg),
            "matcher": build_matcher(cfg),
            "input_shape": {name: input_shape[name] for name in cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES},
            "features": node.FEATURES,
            "classes": node.CLASSES,
            "masks": node.MASKS,
            "temperature": node.TEMPERATURE,
            "no_object_weight": cfg.MODEL.MASK_FORMER.NO_OBJECT_WEIGHT,
            "num_points": cfg.MODEL.MASK_FORMER.TRAIN_NUM_POINTS,
            "inherit": node.INHERIT,
        }

    def begin(self, student: nn.Module) -> None:
        """Copy what fits of the teacher into a student that has not been trained yet; call it before each step.

        What fits are parameters and buffers outside the backbone with the same names and shapes, as detectors inherit
        their teacher's neck and head (arXiv 2110.12724). A student with fewer layers gets the teacher's first ones.

        Raises:
            ValueError: nothing fits.
        """
        if not self._to_begin:
            return
        if self.begun:
            self._to_begin = False
            return
        device = self.begun.device
        theirs = self.teacher.state_dict(device)
        ours = {name: one for name, one in student.state_dict().items() if not name.startswith(_NOT_INHERITED)}
        fitting = [name for name, one in ours.items() if name in theirs and theirs[name].shape == one.shape]
        if not fitting:
            raise ValueError(
                "MODEL.DISTILLATION.INHERIT: nothing of the teacher outside of its backbone has a name and shape of "
                "the student. Give both the same decoders and channels, or set it to False."
            )
        with torch.no_grad():
            for name in fitting:
                ours[name].copy_(theirs[name])
            self.begun.fill_(True)
        self._to_begin = False
        logger.info(
            f"The student begins with {len(fitting)} of the teacher's tensors, of its {len(ours)} beside the backbone."
        )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        # A student that was trained without INHERIT has its own weights by now, and does not begin again.
        if self._to_begin and f"{prefix}begun" not in state_dict and any(n.startswith(prefix) for n in state_dict):
            self.begun.fill_(True)
        super()._load_from_state_dict(state_dict, prefix, *others)

    def forward(
        self, prediction: MaskPrediction, batched_inputs: list[dict[str, Any]], padded_size: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Compute the weighted losses of a batch.

        Args:
            prediction: the student's, with the features of its backbone in ``extras``.
            batched_inputs: the images.
            padded_size: (H, W) of the student's padded images.

        Returns:
            Scalars ``loss_distill_features``, ``loss_distill_classes``, ``loss_distill_masks``.

        Raises:
            ValueError: the teacher pads images to another size.
        """
        answer, size = self.teacher(batched_inputs, prediction.class_logits.device)
        if size != padded_size:
            raise ValueError(
                f"The teacher pads these images to {size}, the student to {padded_size}; give both the same "
                "MODEL.MASK_FORMER.SIZE_DIVISIBILITY."
            )
        losses: dict[str, Tensor] = {}
        with torch.autocast(prediction.class_logits.device.type, enabled=False):
            if self.projections:
                losses["loss_distill_features"] = self.features * self._of_features(prediction, answer)
            if self.classes > 0 or self.masks > 0:
                classes, masks = self._of_queries(prediction, answer)
                losses |= {"loss_distill_classes": self.classes * classes} if self.classes > 0 else {}
                losses |= {"loss_distill_masks": self.masks * masks} if self.masks > 0 else {}
        return losses

    def _of_features(self, prediction: MaskPrediction, answer: MaskPrediction) -> Tensor:
        values = []
        for name, project in self.projections.items():
            theirs = answer.extras[FEATURES + self.pairs[name]].float()
            values.append(feature_loss(project(prediction.extras[FEATURES + name].float()), theirs))
        return torch.stack(values).mean()

    def _of_queries(self, prediction: MaskPrediction, answer: MaskPrediction) -> tuple[Tensor, Tensor]:
        """Compute the unweighted losses of classes and of masks."""
        require_sigmoid([prediction, answer], type(self).__name__)
        kl, divergence, empty = [], [], []
        for image, (queries, chosen) in enumerate(self._match(prediction, answer)):
            ours, theirs = prediction.class_logits[image, queries].float(), answer.class_logits[image, chosen].float()
            kl.append(class_loss(ours, theirs, self.temperature))
            empty.append(theirs.softmax(-1)[:, -1])
            points = torch.rand(self.num_points, 2, device=ours.device)
            logits = [
                one.masks.combine(image, _sampled(one.masks.features[image].float(), points), which)
                for one, which in ((prediction, queries), (answer, chosen))
            ]
            divergence.append(mask_loss(logits[0].float(), logits[1].float()))
        no_object = torch.cat(empty)
        weights = 1 - no_object + self.no_object_weight * no_object
        return weighted_mean(torch.cat(kl), weights), weighted_mean(torch.cat(divergence), 1 - no_object)

    def _match(self, prediction: MaskPrediction, answer: MaskPrediction) -> list[tuple[Tensor, Tensor]]:
        """Return the matched queries of student and teacher for each image, int64 [M] each."""
        targets = [
            MaskTargets(answer.class_logits[image, :, :-1].argmax(-1), answer.masks.logits(image) > 0)
            for image in range(len(answer.class_logits))
        ]
        return [(queries[0], chosen[0]) for queries, chosen in self.matcher([prediction], targets)]


def _sampled(features: Tensor, points: Tensor) -> Tensor:
    """Sample features [C, T, H, W] at points [P, 2] of each frame: [C, T * P]."""
    frames = features.shape[1]
    return sample_points(features.transpose(0, 1), points.expand(frames, -1, -1)).transpose(0, 1).flatten(1)


def _of_one_stride(student: Mapping[str, ShapeSpec], teacher: Mapping[str, ShapeSpec]) -> dict[str, str]:
    by_stride = {shape.stride: name for name, shape in teacher.items()}
    pairs = {name: by_stride[shape.stride] for name, shape in student.items() if shape.stride in by_stride}
    if not pairs:
        strides: Sequence[Any] = [sorted({shape.stride or 0 for shape in one.values()}) for one in (student, teacher)]
        raise ValueError(
            f"Student and teacher have no features of the same stride: {strides[0]} and {strides[1]}. Change "
            "MODEL.SEM_SEG_HEAD.IN_FEATURES, or set MODEL.DISTILLATION.FEATURES 0."
        )
    return pairs


def _projection(channels: int | None, wanted: int | None) -> nn.Module:
    """Return a 1x1 convolution, the identity at first if the channels are as many."""
    assert channels and wanted
    layer = nn.Conv2d(channels, wanted, 1)
    if channels == wanted:
        nn.init.dirac_(layer.weight)
    else:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
