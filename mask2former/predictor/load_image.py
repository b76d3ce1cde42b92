"""Load images from paths, URLs, bytes, file objects, arrays, tensors and PIL images."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from mask2former.data.datasets.readers import IMAGE_SUFFIXES, with_suffix
from mask2former.data.images.read import image_from_bytes, read_image, read_labels, require_8_bits
from mask2former.download import read_url

URL_SCHEMES = ("http://", "https://")
MOST_BYTES = 64 << 20  # limit of a downloaded image
BYTES = (bytes, bytearray, memoryview)
CHANNELS = (1, 3, 4)  # grey, RGB, RGBA


@dataclass(frozen=True)
class LoadedImage:
    """An image to predict on.

    Attributes:
        pixels: [H, W, 3] uint8, RGB.
        name: name of its file or URL, without folders; None for images from memory.
        mask: [H, W] bool, the marked pixels; None: nothing is marked.
        seconds: when it is shown, from the beginning of its film; None: not known.
    """

    pixels: np.ndarray
    name: str | None = None
    mask: np.ndarray | None = None
    seconds: float | None = None


def load_image(source: Any) -> LoadedImage:
    """Load an image from a path, a URL, a file's content, an array, a tensor or a PIL image.

    Files and PIL images are turned as their EXIF entry says. Grey images get three equal channels; transparency is
    dropped, as in training.

    Args:
        source: path or URL (text or ``Path``); the bytes of an image file, or a file object opened for reading bytes;
            uint8 array [H, W, 3] RGB, [H, W, 4] RGBA, [H, W] or [H, W, 1] grey; uint8 tensor on any device, of these
            shapes or with channels first; or PIL image.

    Raises:
        FileNotFoundError: there is no such file.
        DownloadError: the URL cannot be downloaded.
        ValueError: it is not an image, or has more than 8 bits a channel.
        TypeError: ``source`` is of another type.
    """
    if isinstance(source, LoadedImage):
        return source
    if isinstance(source, str) and source.startswith(URL_SCHEMES):
        return _from_url(source)
    if isinstance(source, (str, Path)):
        path = Path(source).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such image file.")
        return LoadedImage(read_image(str(path), "RGB"), path.name)
    if isinstance(source, Image.Image):
        name = getattr(source, "filename", "")
        return LoadedImage(_from_pil(source, "PIL image"), Path(name).name or None)
    if isinstance(source, np.ndarray):
        return LoadedImage(_from_array(source))
    if isinstance(source, Tensor):
        return LoadedImage(_from_array(channels_last(source)))
    if isinstance(source, BYTES):
        return LoadedImage(image_from_bytes(bytes(source), "image of bytes"))
    if hasattr(source, "read"):
        return _from_file(source)
    raise TypeError(
        "An image is a path, a URL, bytes, a file object, a uint8 array [H, W, 3], a uint8 tensor or a PIL image; "
        f"found {type(source).__name__}."
    )


def channels_last(tensor: Tensor) -> np.ndarray:
    """Return a tensor of an image as an array with the channels last.

    Raises:
        ValueError: its shape does not say which dimension the channels are, or it is a batch.
    """
    shape = tuple(tensor.shape)
    if tensor.ndim == 4:
        raise ValueError(f"The tensor of shape {shape} is a batch: give list(x), which makes a list of results.")
    if tensor.ndim == 3:
        first, last = shape[0] in CHANNELS, shape[2] in CHANNELS
        if first and last:
            raise ValueError(
                f"The tensor's shape {shape} does not say which dimension the channels are. Give an array, which has "
                "them last: x.cpu().numpy() if they are last, x.permute(1, 2, 0).cpu().numpy() if they are first."
            )
        if first:
            tensor = tensor.permute(1, 2, 0)
    if tensor.dtype == torch.bfloat16:  # which NumPy lacks
        tensor = tensor.float()
    return tensor.detach().cpu().numpy()


def load_mask(source: Any, size: tuple[int, int]) -> np.ndarray:
    """Load the mask that comes with an image: bool [H, W], True where a pixel is marked.

    Args:
        source: path of an image of one channel, or array [H, W] of bool or integers; any number but 0 marks.
        size: (H, W) of the image.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is of another size, has several channels, or marks no pixel.
    """
    if isinstance(source, (str, Path)):
        path = Path(source).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such mask file.")
        where, mask = str(path), read_labels(str(path))
    else:
        where, mask = "The mask", np.asarray(source)
    if mask.ndim != 2 or mask.dtype.kind not in "bui":
        raise ValueError(f"{where}: found {mask.shape}, {mask.dtype}; a mask is [H, W] of bool or integers.")
    if mask.shape != size:
        raise ValueError(f"{where}: it has (height, width) {mask.shape}, but its image has {size}; make them the same.")
    if not mask.any():
        raise ValueError(f"{where}: it marks no pixel, so there is nothing to look at.")
    return mask != 0


def find_images(place: str | Path) -> list[Path]:
    """Return the image files of a folder (by suffix, without subfolders) or a glob; or the file itself.

    They come in the order of their names, numbers in these by their value: 2.png before 10.png, as frames are numbered.

    Raises:
        FileNotFoundError: there is none.
    """
    path = Path(place).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(with_suffix(path.iterdir(), IMAGE_SUFFIXES), key=_by_numbers)
        problem = f"the folder holds no image ({', '.join(IMAGE_SUFFIXES)})."
    else:
        names = map(Path, glob.glob(str(path), recursive=True))
        found = sorted((file for file in names if file.is_file()), key=_by_numbers)
        problem = "no such file; give an image, a folder or a quoted glob."
    if not found:
        raise FileNotFoundError(f"{place}: {problem}")
    return found


def _by_numbers(file: Path) -> tuple[list[list[str | int]], Path]:
    """Return what sorts a path by its parts, with the numbers in them as numbers."""
    parts = [re.split(r"(\d+)", part) for part in file.parts]  # text, number, text, ...
    return [[int(x) if place % 2 else x for place, x in enumerate(part)] for part in parts], file


def is_many(source: Any) -> bool:
    """Tell whether a source stands for several images: a list, a folder or a glob."""
    if isinstance(source, Sequence) and not isinstance(source, (str, *BYTES)):
        return True
    if not isinstance(source, (str, Path)) or str(source).startswith(URL_SCHEMES):
        return False
    path = Path(source).expanduser()
    return path.is_dir() or (glob.has_magic(str(path)) and not path.is_file())


def _from_array(array: np.ndarray) -> np.ndarray:
    shape = array.shape
    if array.dtype != np.uint8:
        raise ValueError(
            f"The image is an array of {array.dtype}; it has to be uint8, 0 to 255. "
            "Floats of 0 to 1: (255 * x).round().astype(np.uint8)."
        )
    channels = shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in CHANNELS or 0 in shape:
        hint = " Channels come last: x.transpose(1, 2, 0)." if array.ndim == 3 and shape[0] in CHANNELS else ""
        raise ValueError(f"The image is an array of shape {shape}; it has to be [H, W, 3], [H, W, 4] or [H, W].{hint}")
    if channels == 1:
        return np.repeat(array.reshape(*shape[:2], 1), 3, axis=2)
    return np.array(array[:, :, :3], order="C")  # a copy: the result keeps it, and callers may reuse theirs


def _from_pil(image: Image.Image, source: str) -> np.ndarray:
    require_8_bits(image, source)
    image.load()  # turns TIFF, and no other format
    return np.array(ImageOps.exif_transpose(image).convert("RGB"))


def _from_url(url: str) -> LoadedImage:
    pixels = image_from_bytes(read_url(url, MOST_BYTES), url)
    return LoadedImage(pixels, Path(unquote(urlparse(url).path)).name or None)


def _from_file(file: Any) -> LoadedImage:
    content = file.read()
    if not isinstance(content, BYTES):
        raise TypeError(f"The file object gives {type(content).__name__}, not bytes: open it with mode 'rb'.")
    name = getattr(file, "name", None)
    name = Path(name).name if isinstance(name, str) else None
    return LoadedImage(image_from_bytes(bytes(content), name or "image of a file object"), name)
