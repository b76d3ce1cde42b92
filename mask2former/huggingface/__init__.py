"""Folders that Hugging Face's ``from_pretrained`` opens, and their upload."""

from mask2former.huggingface.folder import write_folder
from mask2former.huggingface.push import push_to_hub

__all__ = ["push_to_hub", "write_folder"]
