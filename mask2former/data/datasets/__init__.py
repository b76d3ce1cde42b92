"""Data sets: their rows in Detectron2's catalogs, classes and readers."""

from mask2former.data.datasets.register import data_root, register_all

__all__ = ["data_root", "register_all"]
