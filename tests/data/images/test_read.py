"""Images of every depth, and broken ones."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from mask2former.data.images.decode import opencv_opens
from mask2former.data.images.read import file_size, image_from_bytes, read_image, read_labels, read_panoptic_ids


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


FORK = """
import io, os, signal, threading
from PIL import Image
from mask2former.data.images import opened
from mask2former.data.images.read import image_from_bytes

content = io.BytesIO()
Image.new("P", (8, 8)).save(content, "PNG")
inside, go_on = threading.Event(), threading.Event()

def read():
    with opened.pillow(io.BytesIO(content.getvalue())):
        inside.set()
        go_on.wait(2)  # the process forks meanwhile, or waits for this

thread = threading.Thread(target=read)
thread.start()
inside.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)
    os._exit(image_from_bytes(content.getvalue(), "child").shape != (8, 8, 3))
go_on.set()
thread.join()
assert os.waitpid(child, 0)[1] == 0, "the child was killed, as it waited for a lock that nobody releases"
image_from_bytes(content.getvalue(), "parent")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")
def test_processes_fork_while_a_thread_reads() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_large_images_have_names_in_any_script(tmp_path: Path) -> None:
    pixels = np.full((1100, 1000, 3), (1, 2, 3), np.uint8)
    file = tmp_path / "Straße 道路.png"
    Image.fromarray(pixels).save(file)
    np.testing.assert_array_equal(read_image(str(file), "RGB"), pixels)
    assert opencv_opens(str(file), "posix") and not opencv_opens(str(file), "nt")
    assert opencv_opens("road.png", "posix") and opencv_opens("road.png", "nt")


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
    content = png(pixels, pnginfo=info, compress_level=int(rng.integers(0, 10)), gamma=0.5, dpi=(30, 30))
    np.testing.assert_array_equal(image_from_bytes(content, "a.png"), pixels)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1"])
def test_other_pngs_give_ids_as_pillow_converts_them(tmp_path: Path, mode: str) -> None:
    pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    Image.fromarray(pixels).convert(mode).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as saved:
        rgb = np.asarray(saved.convert("RGB")).astype(np.uint32)
    np.testing.assert_array_equal(
        read_panoptic_ids(str(tmp_path / "a.png")), rgb @ np.array([1, 256, 65536], np.uint32)
    )


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("code", range(1, 9))
def test_every_orientation_is_turned_as_pillow_turns_it(tmp_path: Path, suffix: str, code: int) -> None:
    """The oracle turns the pixels of a file that has no orientation."""
    exif = Image.Exif()
    exif[0x0112] = code
    pixels = np.random.default_rng(code).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    options: dict[str, object] = {"lossless": True} if suffix == "webp" else {}
    for mode in ("RGB", "L"):
        plain, turned = tmp_path / f"plain{mode}.{suffix}", tmp_path / f"turned{mode}.{suffix}"
        Image.fromarray(pixels).convert(mode).save(plain, **options)
        Image.fromarray(pixels).convert(mode).save(turned, exif=exif, **options)
        with Image.open(plain) as stored:
            image = stored.convert("RGB")
        image.getexif()[0x0112] = code
        expected = np.asarray(ImageOps.exif_transpose(image))
        np.testing.assert_array_equal(read_image(str(turned), "RGB"), expected)
        np.testing.assert_array_equal(read_image(str(turned), "BGR"), expected[..., ::-1])
        assert file_size(str(turned)) == file_size(str(turned), decode=True) == expected.shape[:2]
        if suffix != "jpg":
            np.testing.assert_array_equal(read_panoptic_ids(str(turned)) & 255, expected[..., 0])
        if mode == "L" and suffix in ("png", "tif"):
            np.testing.assert_array_equal(read_labels(str(turned)), expected[..., 0])


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_an_orientation_in_xmp_counts_where_there_is_no_exif(tmp_path: Path, suffix: str) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    file, options = tmp_path / f"a.{suffix}", {"lossless": True} if suffix == "webp" else {}
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp.decode())
    Image.fromarray(pixels).save(file, **({"pnginfo": info} if suffix == "png" else {"xmp": xmp}), **options)
    with Image.open(file) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert expected.shape == (24, 16, 3)
    np.testing.assert_array_equal(read_image(str(file), "RGB"), expected)
    assert file_size(str(file)) == (24, 16)
