"""Read what the header of an image file says."""

from __future__ import annotations

from dataclasses import dataclass

from mask2former.data.images.exif import SIDEWAYS


@dataclass
class Header:
    """Hold what is known of an image file before its pixels are decoded.

    Attributes:
        kind: Pillow's name of the format.
        height, width: in pixels, as stored, before it is turned.
        depth: bits a channel.
        channels: values a pixel.
        orientation: EXIF's number; from 5 on, height and width change places.
        elsewhere: the orientation may be in a text or in XMP instead, which Pillow reads.
        plain: OpenCV reads it as Pillow does: 8 bits a channel, no palette, no animation.
        interlaced: its pixels are stored in several passes (PNG).
    """

    kind: str
    height: int
    width: int
    depth: int = 8
    channels: int = 3
    orientation: int = 1
    elsewhere: bool = False
    plain: bool = False
    interlaced: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) once it is turned."""
        return (self.width, self.height) if self.orientation in SIDEWAYS else (self.height, self.width)
