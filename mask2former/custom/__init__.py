"""Training on custom data: detect the format, check, split, register, and choose the settings."""

from mask2former.custom.dataset import CustomDataset, build_dataset
from mask2former.custom.source import DataError, DataSource, detect_format

__all__ = ["CustomDataset", "DataError", "DataSource", "build_dataset", "detect_format"]
