"""The mapper: a record of a data set becomes tensors, image and masks augmented together."""

from mask2former.data.mapper.mapper import Mapper

__all__ = ["Mapper"]
