"""PNG files by kornia-rs: the pixels are Pillow's, damage is refused, and OpenCV decodes what is left or all."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from damage import encode, png_of
from hypothesis import given
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


@given(
    st.sampled_from(["L", "RGB", "P"]),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(0, 2**32 - 1),
    st.integers(0, 9),
    st.booleans(),
)
def test_pixels_are_those_of_pillow(mode, size, seed, level, few):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 3 if few else 256, (*size, *((3,) if mode == "RGB" else ())), dtype=np.uint8)
    image = Image.fromarray(pixels)
    if mode == "P":
        image.putpalette(bytes(rng.integers(0, 256, 768, dtype=np.uint8)))
    content = encode(image, "PNG", compress_level=level)

    found = decoded(content, 3 if mode == "RGB" else 1)

    assert found is not None and found.dtype == np.uint8 and np.array_equal(found, pixels)
    if mode == "L":
        assert np.array_equal(decoded(content, 3), np.asarray(image.convert("RGB")))
    assert np.array_equal(image_from_bytes(content, "image.png"), np.asarray(image.convert("RGB")))
    assert np.array_equal(image_from_bytes(content, "image.png", "BGR"), np.asarray(image.convert("RGB"))[..., ::-1])


def test_other_colours_are_left_to_other_decoders():
    rgba = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(3, 4, 4), "RGBA")

    assert decoded(encode(rgba, "PNG"), 3) is None
    assert decoded(encode(rgba.convert("RGB"), "PNG"), 1) is None  # colours where numbers are wanted
    assert image_from_bytes(encode(rgba, "PNG"), "image.png").shape == (3, 4, 3)


def test_an_image_may_be_written_to(tmp_path: Path):
    path = tmp_path / "image.png"
    Image.new("RGB", (4, 3), (1, 2, 3)).save(path)
    image = read_image(str(path), "RGB")
    image[0, 0] = 9  # augmentations do

    assert image.flags.c_contiguous and read_image(str(path), "RGB")[0, 0].tolist() == [1, 2, 3]


def test_a_wrong_checksum_of_zlib_is_refused(tmp_path: Path):
    stream = zlib.compress(b"".join(b"\0" + bytes([row] * 4) for row in range(3)))
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 4, 3, 8, 0, 0, 0, 0)),
        (b"IDAT", stream[:-1] + bytes([stream[-1] ^ 1])),
        (b"IEND", b""),
    ]
    path = tmp_path / "labels.png"
    path.write_bytes(png_of(chunks))

    with pytest.raises(ImageError, match=r"labels\.png"):
        read_labels(str(path))


def test_no_memory_is_an_error_that_can_be_caught(monkeypatch):
    class PanicException(BaseException):
        """As Rust's, which is no Exception either."""

    def panic(*_):
        raise PanicException("PyObject pointer is null")

    monkeypatch.setattr(fast_png, "decoder", lambda: panic)
    with pytest.raises(MemoryError, match="pointer is null"):
        decoded(encode(Image.new("L", (4, 3)), "PNG"), 1)


@pytest.mark.parametrize("missing", ["kornia_rs.io", "zlib_ng"])
def test_opencv_decodes_where_one_of_the_two_is_missing(monkeypatch, caplog, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    content = encode(Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)), "PNG")
    fast_png.decoder.cache_clear()
    try:
        with caplog.at_level("INFO", "mask2former"):
            assert image_from_bytes(content, "image.png")[2, 3].tolist() == [11, 11, 11]
            assert image_from_bytes(content, "image.png").shape == (3, 4, 3)
    finally:
        fast_png.decoder.cache_clear()
    assert [r.message.count("mask2former[images]") for r in caplog.records] == [1]
