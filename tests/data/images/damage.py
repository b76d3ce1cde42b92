"""Image files to damage, and seeded damage."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from PIL import Image

from mask2former.data.images.read import read_image, read_labels, read_panoptic_ids

Reader = Callable[[str], np.ndarray]


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photograph(height: int = 60, width: int = 80) -> Image.Image:
    rng = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), (0, 0), 2).astype(float)
    return Image.fromarray(((smooth - 128) * 5 + 128 + rng.normal(0, 4, smooth.shape)).clip(0, 255).astype(np.uint8))


def labels(most: int, height: int = 60, width: int = 80) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.integers(0, most, (height // 10, width // 10)).repeat(10, 0).repeat(10, 1)


def files() -> dict[str, tuple[str, bytes, Reader]]:
    """Name of a kind -> suffix, content of a sound file, and how it is read."""
    ids = labels(1 << 24)
    panoptic = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], -1).astype(np.uint8)
    grey, palette = Image.fromarray(labels(20).astype(np.uint8)), Image.fromarray(labels(20).astype(np.uint8))
    palette.putpalette([7, 8, 9] * 256)
    deep = Image.fromarray(labels(60000).astype(np.uint16))
    photo = photograph()

    def colours(path: str) -> np.ndarray:
        return read_image(path, "RGB")

    return {
        "png image": (".png", encode(photo, "PNG"), colours),
        "png labels": (".png", encode(grey, "PNG"), read_labels),
        "png palette labels": (".png", encode(palette, "PNG"), read_labels),
        "png labels of 16 bits": (".png", encode(deep, "PNG"), read_labels),
        "panoptic png": (".png", encode(Image.fromarray(panoptic), "PNG"), read_panoptic_ids),
        "jpeg": (".jpg", encode(photo, "JPEG"), colours),
        "jpeg, progressive": (".jpg", encode(photo, "JPEG", progressive=True), colours),
        "webp": (".webp", encode(photo, "WEBP"), colours),
        "webp, lossless": (".webp", encode(photo, "WEBP", lossless=True), colours),
        "tiff": (".tif", encode(photo, "TIFF"), colours),
        "tiff, deflate": (".tif", encode(photo, "TIFF", compression="tiff_adobe_deflate"), colours),
        "tiff labels": (".tif", encode(deep, "TIFF"), read_labels),
        "bmp": (".bmp", encode(photo, "BMP"), colours),
    }


def mutations(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Yield damaged copies: bytes changed, bits turned, parts cut off, left out, doubled, zeroed or put in."""
    rng = np.random.default_rng(seed)
    chunks = _chunks(content)
    for number in range(count):
        data = bytearray(content)
        start = int(rng.integers(len(data)))
        end = start + int(rng.integers(1, 64))
        match number % (10 if chunks else 8):
            case 0:
                data[start] ^= int(rng.integers(1, 256))
            case 1:
                data[start] ^= 1 << int(rng.integers(8))
            case 2:
                del data[start:]
            case 3:
                del data[start:end]
            case 4:
                data[start:start] = data[start:end]
            case 5:
                data[start:end] = bytes(len(data[start:end]))
            case 6:
                data[start:start] = rng.bytes(int(rng.integers(1, 64)))
            case 7:  # the header above all
                data[int(rng.integers(min(len(data), 64)))] = int(rng.integers(256))
            case 8:
                data = bytearray(_with_other_chunks(chunks, rng))
            case 9:
                data = bytearray(_with_sound_checksums(chunks, rng))
        yield bytes(data)


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """Return the chunks of a PNG file, (kind, data); none for other files."""
    found, place = [], 8
    while content.startswith(b"\x89PNG") and place < len(content):
        (length,) = struct.unpack_from(">I", content, place)
        found.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += length + 12
    return found


def png_of(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """Return a PNG file of chunks, with right checksums."""
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _split(chunks: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Spread the pixels over several chunks."""
    result = []
    for kind, data in chunks:
        step = max(1, len(data) // 5) if kind == b"IDAT" else max(1, len(data))
        result += [(kind, data[at : at + step]) for at in range(0, max(1, len(data)), step)]
    return result


def _with_other_chunks(chunks: list[tuple[bytes, bytes]], rng: np.random.Generator) -> bytes:
    """Leave out, double or exchange chunks, each of which is whole."""
    chunks = _split(chunks)
    one, other = (int(n) for n in rng.integers(len(chunks), size=2))
    match int(rng.integers(3)):
        case 0:
            del chunks[one]
        case 1:
            chunks.insert(other, chunks[one])
        case 2:
            chunks[one], chunks[other] = chunks[other], chunks[one]
    return png_of(chunks)


def _with_sound_checksums(chunks: list[tuple[bytes, bytes]], rng: np.random.Generator) -> bytes:
    """Cut the stream of pixels, as a writer does that is stopped; all checksums are right."""
    chunks = _split(chunks)
    places = [place for place, (kind, _) in enumerate(chunks) if kind == b"IDAT"]
    last = places[int(rng.integers(len(places)))]
    kept = int(rng.integers(len(chunks[last][1])))
    result = [chunk for place, chunk in enumerate(chunks) if chunk[0] != b"IDAT" or place < last]
    result.insert(last, (b"IDAT", chunks[last][1][:kept]))
    return png_of(result)
