"""Data: registration, readers, augmentation and the mapper."""

from mask2former.data.datasets import data_root, register_all
from mask2former.data.mapper import Mapper

__all__ = ["Mapper", "data_root", "register_all"]
