"""PNG files by kornia-rs: the pixels are Pillow's, damage is refused, and OpenCV decodes what is left or all."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from damage import encode, png_of
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mask2former.data.images import fast_png
from mask2former.data.images.limits import ImageError
from mask2former.data.images.png import scan
from mask2former.data.images.read import image_from_bytes, read_image, read_labels

pytest.importorskip("kornia_rs")
pytest.importorskip("zlib_ng")


def decoded(content: bytes, channels: int) -> np.ndarray | None:
    file = io.BytesIO(content)
    header = scan(file, verify=True)
    file.seek(0)
    return fast_png.decode_png(file, header, channels)


def both_ways(content: bytes, read: Callable[..., np.ndarray], path: Path) -> list[np.ndarray | type[Exception]]:
    """Read a file by kornia-rs and by OpenCV alone; an error in place of pixels that are refused."""
    path.write_bytes(content)
    found: list[np.ndarray | type[Exception]] = []
    for decoder in (fast_png.decoder, lambda: None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fast_png, "decoder", decoder)
            try:
                found.append(read(str(path)))
            except ImageError as error:
                assert str(path) in str(error)
                found.append(ImageError)
    return found


@settings(deadline=None)
@given(
    st.sampled_from(["L", "RGB", "P"]),
    st.tuples(st.integers(20, 60), st.integers(20, 60)),
    st.integers(0, 2**32 - 1),
    st.integers(1, 9),
)
def test_pixels_are_those_of_pillow(mode, size, seed, level):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (2, 3, *((3,) if mode == "RGB" else ())), dtype=np.uint8)
    pixels = coarse.repeat(30, 0).repeat(20, 1)[: size[0], : size[1]]
    image = Image.fromarray(pixels)
    if mode == "P":
        image.putpalette(bytes(rng.integers(0, 256, 768, dtype=np.uint8)))
    content = encode(image, "PNG", compress_level=level)

    found = decoded(content, 3 if mode == "RGB" else 1)

    if found is None:  # small images do not fit in a quarter of their pixels
        assert len(content) > pixels.size / 4
    else:
        assert found.dtype == np.uint8 and np.array_equal(found, pixels)
    assert np.array_equal(image_from_bytes(content, "image.png"), np.asarray(image.convert("RGB")))
    assert np.array_equal(image_from_bytes(content, "image.png", "BGR"), np.asarray(image.convert("RGB"))[..., ::-1])


def test_the_rest_is_left_to_other_decoders():
    flat = Image.new("RGB", (60, 40), (1, 2, 3))

    assert decoded(encode(flat, "PNG"), 3) is not None
    assert decoded(encode(flat, "PNG"), 1) is None  # colours where numbers are wanted
    assert decoded(encode(flat.convert("L"), "PNG"), 3) is None
    assert decoded(encode(flat.convert("P"), "PNG"), 3) is None
    assert decoded(encode(flat.convert("RGBA"), "PNG"), 3) is None
    assert decoded(encode(flat.convert("I;16"), "PNG"), 1) is None
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    assert decoded(encode(Image.fromarray(noise), "PNG"), 3) is None
    passes = cv2.imencode(".png", np.zeros((40, 60), np.uint8))[1].tobytes()
    head = passes[12:28] + b"\1"  # the last byte of IHDR: stored in seven passes
    interlaced = passes[:12] + head + zlib.crc32(head).to_bytes(4, "big") + passes[33:]
    assert decoded(interlaced, 1) is None


HEAD = struct.pack(">IIBBBBB", 40, 30, 8, 0, 0, 0, 0)
ROWS_OF_LABELS = np.repeat(np.arange(3, dtype=np.uint8), 10)[:, None].repeat(40, 1)
ROWS = b"".join(b"\0" + bytes([row // 10] * 40) for row in range(30))
STREAM = zlib.compress(ROWS)
FILES = {
    "sound": [(b"IHDR", HEAD), (b"IDAT", STREAM), (b"IEND", b"")],
    "in parts": [(b"IHDR", HEAD), (b"IDAT", STREAM[:9]), (b"IDAT", STREAM[9:]), (b"IEND", b"")],
    "with a gamma": [(b"IHDR", HEAD), (b"gAMA", b"\0\0\xb1\x8f"), (b"IDAT", STREAM), (b"IEND", b"")],
    "wrong checksum": [(b"IHDR", HEAD), (b"IDAT", STREAM[:-1] + bytes([STREAM[-1] ^ 1])), (b"IEND", b"")],
    "too few rows": [(b"IHDR", HEAD), (b"IDAT", zlib.compress(ROWS[:-41])), (b"IEND", b"")],
    "too many rows": [(b"IHDR", HEAD), (b"IDAT", zlib.compress(ROWS + ROWS[-41:])), (b"IEND", b"")],
    "something after the stream": [(b"IHDR", HEAD), (b"IDAT", STREAM + b"more"), (b"IEND", b"")],
    "two streams": [(b"IHDR", HEAD), (b"IDAT", STREAM), (b"IDAT", STREAM), (b"IEND", b"")],
    "pixels in two places": [
        (b"IHDR", HEAD), (b"IDAT", STREAM[:9]), (b"tIME", bytes(7)), (b"IDAT", STREAM[9:]), (b"IEND", b"")
    ],
    "two headers": [(b"IHDR", HEAD), (b"IDAT", STREAM), (b"IHDR", HEAD), (b"IEND", b"")],
    "an unknown critical chunk": [(b"IHDR", HEAD), (b"IDAT", STREAM), (b"QQQQ", b""), (b"IEND", b"")],
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_the_same_files_are_refused_as_by_opencv(kind, tmp_path: Path):
    fast, slow = both_ways(png_of(FILES[kind]), read_labels, tmp_path / "labels.png")

    if kind in ("sound", "in parts", "with a gamma"):
        assert np.array_equal(fast, ROWS_OF_LABELS) and np.array_equal(slow, ROWS_OF_LABELS)
    else:
        assert fast is ImageError
        assert slow is ImageError or kind == "two streams"  # libpng does not look for more


def test_an_image_may_be_written_to(tmp_path: Path):
    path = tmp_path / "image.png"
    Image.new("RGB", (60, 40), (1, 2, 3)).save(path)
    image = read_image(str(path), "RGB")
    image[0, 0] = 9  # augmentations do

    assert image.flags.c_contiguous and read_image(str(path), "RGB")[0, 0].tolist() == [1, 2, 3]


class PanicException(BaseException):
    """Stand for Rust's, which is no Exception either."""


@pytest.mark.parametrize("error", [PanicException, ValueError])
def test_what_the_decoder_refuses_or_fails_at_is_left_to_opencv(monkeypatch, error):
    def fail(*_):
        raise error("a file that it does not like")

    monkeypatch.setattr(fast_png, "decoder", lambda: fail)
    flat = Image.new("L", (60, 40), 7)

    assert decoded(encode(flat, "PNG"), 1) is None
    assert image_from_bytes(encode(flat, "PNG"), "image.png")[0, 0].tolist() == [7, 7, 7]


def test_an_interruption_is_none_of_its_errors(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fast_png, "decoder", lambda: interrupt)
    with pytest.raises(KeyboardInterrupt):
        decoded(encode(Image.new("L", (60, 40)), "PNG"), 1)


@pytest.mark.parametrize("missing", ["kornia_rs.io", "zlib_ng"])
def test_opencv_decodes_where_one_of_the_two_is_missing(monkeypatch, caplog, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    content = encode(Image.new("L", (60, 40), 11), "PNG")
    fast_png.decoder.cache_clear()
    try:
        with caplog.at_level("INFO", "mask2former"):
            assert [decoded(content, 1) is None for _ in range(2)] == [True, True]
            assert image_from_bytes(content, "image.png")[2, 3].tolist() == [11, 11, 11]
    finally:
        fast_png.decoder.cache_clear()
    assert [r.message.count("mask2former[images]") for r in caplog.records] == [1]
