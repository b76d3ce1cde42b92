"""Training on custom data: detect the format, check, split, register, and choose the settings."""

from mask2former.custom.dataset import CustomDataset, build_dataset
from mask2former.custom.folders import FolderData, open_data
from mask2former.custom.source import DataError, DataSource, detect_format

__all__ = ["CustomDataset", "DataError", "DataSource", "FolderData", "build_dataset", "detect_format", "open_data"]
