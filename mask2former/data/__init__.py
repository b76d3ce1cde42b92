"""Data: registration, readers, augmentation and the mapper."""

from mask2former.data.datasets import register_all
from mask2former.data.mapper import Mapper

__all__ = ["Mapper", "register_all"]
