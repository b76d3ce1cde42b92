"""Folders as annotation tools and data set hosts write them: recognised, and converted to the forms that are read."""

from mask2former.custom.folders.checked import check_folder
from mask2former.custom.folders.folder import FolderData
from mask2former.custom.folders.opened import open_data

__all__ = ["FolderData", "check_folder", "open_data"]
