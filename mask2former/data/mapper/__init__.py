"""The mapper: turn a record of a data set into tensors, with image and masks augmented together."""

from mask2former.data.mapper.build import build_mapper, is_video
from mask2former.data.mapper.clips import ClipMapper
from mask2former.data.mapper.mapper import Mapper

__all__ = ["ClipMapper", "Mapper", "build_mapper", "is_video"]
