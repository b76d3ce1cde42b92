"""Data sets: their registration in Detectron2's catalogs, classes and readers."""

from mask2former.data.datasets.register import data_root, register_all, register_at_import

__all__ = ["data_root", "register_all", "register_at_import"]
