"""Distillation: a student learns from a frozen teacher's features, class distributions and masks."""

from mask2former.modeling.distillation.distillation import FEATURES, Distillation
from mask2former.modeling.distillation.teacher import Teacher

__all__ = ["FEATURES", "Distillation", "Teacher"]
