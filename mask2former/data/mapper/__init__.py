"""The mapper: turn a record of a data set into tensors, with image and masks augmented together."""

from mask2former.data.mapper.mapper import Mapper

__all__ = ["Mapper"]
