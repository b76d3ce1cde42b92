"""For code that was written for the published package: its import paths, and what this one has no other use for."""

from mask2former.drop_in.paths import install

__all__ = ["install"]
