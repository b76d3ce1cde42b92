"""Compatibility with code written for the published package: its import paths, and classes that only such code uses."""

from mask2former.drop_in.paths import install

__all__ = ["install"]
