"""Images of every depth, and broken ones."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mask2former.data.images.read import _plain_png, read_image, read_labels, read_panoptic_ids


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "LA", "1"])
def test_every_eight_bit_image_becomes_three_channels(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (5, 4), (255, 255, 255)).convert(mode).save(path)
    image = read_image(str(path), "RGB")
    assert image.shape == (4, 5, 3) and image.dtype == np.uint8
    assert (image == 255).all()


def test_bgr_is_rgb_reversed(image: Path) -> None:
    np.testing.assert_array_equal(read_image(str(image), "BGR")[..., ::-1], read_image(str(image), "RGB"))


def test_sixteen_bit_images_are_refused_not_clipped(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((4, 5), 40000, np.uint16)).save(path)
    with pytest.raises(ValueError, match=r"deep\.png.*8 bits"):
        read_image(str(path), "RGB")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm"])
@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bit_colours_are_refused_too(tmp_path: Path, suffix: str, channels: int) -> None:
    """Pillow gives their upper bits without a word, which of a camera's 12 bits leaves four."""
    path = tmp_path / f"deep{suffix}"
    if channels == 4 and suffix == ".ppm":
        pytest.skip("this format has no transparency")
    cv2.imwrite(str(path), np.full((4, 5, channels), 4000, np.uint16))
    with pytest.raises(ValueError, match=rf"deep\{suffix}.*8 bits"):
        read_image(str(path), "RGB")


def test_sixteen_bits_a_pixel_are_not_sixteen_a_channel(tmp_path: Path) -> None:
    """A bitmap of 5, 6 and 5 bits."""
    header = struct.pack("<2sIHHI", b"BM", 54 + 8, 0, 0, 54)
    header += struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, 16, 0, 8, 0, 0, 0, 0)
    (tmp_path / "small.bmp").write_bytes(header + b"\xff\x7f" * 4)
    assert (read_image(str(tmp_path / "small.bmp"), "RGB") == 255).all()


def test_broken_images_are_named(tmp_path: Path, image: Path) -> None:
    truncated = tmp_path / "truncated.png"
    truncated.write_bytes(image.read_bytes()[:600])
    with pytest.raises(ValueError, match=r"truncated\.png"):
        read_image(str(truncated), "RGB")
    text = tmp_path / "text.png"
    text.write_text("no image")
    with pytest.raises(ValueError, match=r"text\.png"):
        read_image(str(text), "RGB")
    with pytest.raises(FileNotFoundError, match=r"absent\.png"):
        read_image(str(tmp_path / "absent.png"), "RGB")


def test_labels_are_palette_indices_not_colours(tmp_path: Path) -> None:
    labels = np.arange(20, dtype=np.uint8).reshape(4, 5)
    image = Image.fromarray(labels)
    image.putpalette([7, 7, 7] * 256)
    image.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_labels(str(tmp_path / "palette.png")), labels)


def test_labels_over_255_are_read(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 5), 846, np.uint16)).save(tmp_path / "many.png")
    assert (read_labels(str(tmp_path / "many.png")) == 846).all()


def test_coloured_labels_are_refused(image: Path) -> None:
    with pytest.raises(ValueError, match=r"image\.png.*one channel"):
        read_labels(str(image))


def test_panoptic_ids_use_all_three_channels(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[1, 2, 3], [255, 255, 255], [0, 0, 0]]], np.uint8)).save(tmp_path / "ids.png")
    assert read_panoptic_ids(str(tmp_path / "ids.png")).tolist() == [[1 + 2 * 256 + 3 * 65536, 2**24 - 1, 0]]


def png(pixels: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 40), width=st.integers(1, 40))
@settings(deadline=None, max_examples=40)
def test_plain_pngs_are_read_as_pillow_reads_them(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, rng.choice([2, 256]), (height, width, 3), dtype=np.uint8)
    info = PngInfo()
    info.add_text("title", "some text")
    found = _plain_png(png(pixels, pnginfo=info, compress_level=int(rng.integers(0, 10)), gamma=0.5, dpi=(30, 30)))
    assert found is not None
    np.testing.assert_array_equal(found[..., ::-1], pixels)


@given(seed=st.integers(0, 2**32 - 1), cut=st.booleans())
@settings(deadline=None, max_examples=100)
def test_damaged_pngs_are_never_read_otherwise_than_by_pillow(seed: int, cut: bool) -> None:
    rng = np.random.default_rng(seed)
    content = bytearray(png(rng.integers(0, 3, (12, 9, 3), dtype=np.uint8).repeat(4, 1)))
    if cut:
        del content[rng.integers(20, len(content)) :]
    else:
        content[rng.integers(8, len(content))] ^= int(rng.integers(1, 256))
    found = _plain_png(bytes(content))
    if found is not None:
        with Image.open(io.BytesIO(bytes(content))) as image:
            np.testing.assert_array_equal(found[..., ::-1], np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "I;16"])
def test_other_pngs_are_left_to_pillow(tmp_path: Path, mode: str) -> None:
    pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16))
    (deep if mode == "I;16" else Image.fromarray(pixels).convert(mode)).save(tmp_path / "a.png")
    assert _plain_png((tmp_path / "a.png").read_bytes()) is None
    if mode != "I;16":
        with Image.open(tmp_path / "a.png") as saved:
            rgb = np.asarray(saved.convert("RGB")).astype(np.uint32)
        np.testing.assert_array_equal(
            read_panoptic_ids(str(tmp_path / "a.png")), rgb @ np.array([1, 256, 65536], np.uint32)
        )


def test_turned_pngs_are_left_to_pillow(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    (tmp_path / "a.png").write_bytes(png(pixels, exif=exif))
    assert _plain_png((tmp_path / "a.png").read_bytes()) is None
    assert read_panoptic_ids(str(tmp_path / "a.png")).shape == (4, 2)
