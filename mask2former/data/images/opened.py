"""Open image files: tell the format, read the header, refuse what is damaged or too large."""

from __future__ import annotations

import contextlib
import re
import struct
import warnings
from collections.abc import Callable, Iterator
from typing import IO

from detectron2.utils.file_io import PathManager
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from mask2former.data.images import jpeg, png, webp
from mask2former.data.images.exif import ORIENTATION
from mask2former.data.images.header import Header
from mask2former.data.images.limits import ImageError, require_size
from mask2former.data.images.native import lock_across_forks

# Pillow knows some 40 formats, and starts Ghostscript for one; these alone are opened, whatever a file's name is.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM", "GIF")
_OTHERS = ("TIFF", "BMP", "PPM", "GIF")  # those that Pillow alone reads
_DEEP = re.compile(r";16[BLN]$")  # Pillow's names of raw pixels with 16 bits a channel
_ENOUGH = 32  # bytes that tell the format
# Pillow's limit and Python's filters of warnings belong to the process. Made after native's lock, which is taken
# while this one is held.
_lock = lock_across_forks()


@contextlib.contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """Open a file of Detectron2's path manager; errors of the block that are about its content name it.

    Raises:
        FileNotFoundError: there is no such file.
        ImageError: anything else; in the block, see :func:`named`.
    """
    with named(path), PathManager.open(path, "rb") as file:
        yield file


@contextlib.contextmanager
def named(source: str) -> Iterator[None]:
    """Name the file in the errors that readers raise for broken files."""
    try:
        yield
    except (FileNotFoundError, ImageError):
        raise  # names the file already
    except UnidentifiedImageError as error:
        raise ImageError(f"{source}: not an image of the formats that are read ({', '.join(FORMATS)}).") from error
    except MemoryError as error:
        raise ImageError(
            f"{source}: there is not enough memory to decode it ({error}). Cut or shrink the image."
        ) from error
    except (
        OSError,
        ValueError,
        struct.error,
        SyntaxError,
        EOFError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RuntimeError,
        Warning,
        Image.DecompressionBombError,
    ) as error:  # Pillow's readers raise all of these for damaged files
        raise ImageError(f"{source}: it cannot be read: {error}. Is the file complete?") from error


def scan(file: IO[bytes], source: str, verify: bool, limit: int | None) -> Header:
    """Read the header of an image file.

    Args:
        file: opened for reading bytes; is at its start afterwards.
        source: name of the file, for errors.
        verify: compare checksums; otherwise only look for the end of PNG, JPEG and WebP files.
        limit: most pixels; None: :func:`~mask2former.data.images.limits.max_pixels`.

    Raises:
        ValueError: the file is damaged, see :func:`named`.
        ImageError: it has more pixels than ``limit``.
    """
    file.seek(0)
    start = file.read(_ENOUGH)
    header = _scanner(start)(file, verify)
    require_size(header.height, header.width, limit, source)
    if header.elsewhere:
        with pillow(file) as image:
            header.orientation = image.getexif().get(ORIENTATION, 1)
    file.seek(0)
    return header


def _scanner(start: bytes) -> Callable[[IO[bytes], bool], Header]:
    if start.startswith(png.SIGNATURE):
        return png.scan
    if start.startswith(jpeg.SIGNATURE):
        return jpeg.scan
    if webp.is_webp(start):
        return webp.scan
    return _scan_with_pillow


def _scan_with_pillow(file: IO[bytes], verify: bool) -> Header:
    with pillow(file, _OTHERS) as image:
        header = Header(image.format or "", image.height, image.width, channels=len(image.getbands()))
        header.depth = 16 if is_deep(image) else 8
        if isinstance(image, TiffImageFile):  # new versions of Pillow say the size of the turned image
            header.width, header.height = (image.tag_v2[tag] for tag in (256, 257))
            header.orientation = image.getexif().get(ORIENTATION, 1)  # of its tag, or else of XMP
        return header


@contextlib.contextmanager
def pillow(file: IO[bytes], formats: tuple[str, ...] = FORMATS) -> Iterator[Image.Image]:
    """Open a file with Pillow, whose warnings of damage are errors, and whose own limit of pixels is lifted."""
    file.seek(0)
    with _lock, contextlib.ExitStack() as stack:
        stack.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = None
        if not file.read(_ENOUGH).startswith(png.SIGNATURE):  # whose checksums tell of all damage
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("error", module=r"PIL\.")
            warnings.filterwarnings("ignore", "Metadata Warning", module=r"PIL\.")  # a tag with too many values
        file.seek(0)
        yield stack.enter_context(Image.open(file, formats=formats))


def is_deep(image: Image.Image) -> str | None:
    """Return Pillow's name of an image's pixels if they have more than 8 bits a channel, else None.

    Args:
        image: just opened; once its pixels are read, Pillow no longer knows their format in the file.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return image.mode
    for codec, _, _, arguments in getattr(image, "tile", ()):
        stored, *more = arguments if isinstance(arguments, tuple) else (arguments,)
        if _DEEP.search(str(stored)) or (codec.startswith("ppm") and more and more[0] > 255):
            return str(stored)
    return None
