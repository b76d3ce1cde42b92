"""Losses of a student that learns from a teacher; each is zero where both are equal."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def feature_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return 1 - r, r the correlation of both over all images and pixels, averaged over channels.

    It is half the squared distance of features with mean 0 and deviation 1, so it knows no scale, which differs much
    between networks (PKD, arXiv 2207.02039).

    Args:
        student, teacher: [B, C, H, W] float32.
    """
    if student.shape[-2:] != teacher.shape[-2:]:
        teacher = F.interpolate(teacher, student.shape[-2:], mode="bilinear", align_corners=False)
    return 0.5 * (_standardised(student) - _standardised(teacher)).square().mean()


def class_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(teacher || student) of class distributions softened by T (arXiv 1503.02531), of each row: [M].

    Args:
        student, teacher: logits [M, K + 1] float32.
    """
    log_p, log_q = (logits.div(temperature).log_softmax(-1) for logits in (teacher, student))
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(-1)


def mask_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over points of KL(teacher || student), each point inside or outside of the mask: [M].

    Args:
        student, teacher: logits [M, P] float32.
    """
    p = teacher.sigmoid()
    inside = F.logsigmoid(teacher) - F.logsigmoid(student)
    outside = F.logsigmoid(-teacher) - F.logsigmoid(-student)
    return (p * inside + (1 - p) * outside).mean(-1)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return the mean of values [M] under weights [M]; 0 if there is none."""
    return (values * weights).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)


def _standardised(features: Tensor) -> Tensor:
    centred = features - features.mean((0, 2, 3), keepdim=True)
    return centred / (centred.square().mean((0, 2, 3), keepdim=True) + 1e-6).sqrt()
