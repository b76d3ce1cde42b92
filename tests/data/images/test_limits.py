"""Check that formats that nobody means, bombs, and images of too many pixels are refused before memory is taken."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from damage import encode, labels, photograph, png_of
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mask2former.data.images.limits import MAX_PIXELS, ImageError, set_max_pixels
from mask2former.data.images.read import file_size, image_from_bytes, read_image, read_labels, read_panoptic_ids

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
READERS: list[Callable[[str], object]] = [
    lambda path: read_image(path, "RGB"),
    read_labels,
    read_panoptic_ids,
    file_size,
    lambda path: file_size(path, decode=True),
]
# Prints for each file what a reader takes at most beyond what the process had, the result's size (both in MB), and the
# error. The first file only loads the libraries.
MEASURE = """
import sys
from mask2former.data.images.read import read_image, read_labels, read_panoptic_ids
others = {"labels": read_labels, "ids": read_panoptic_ids}
read = others.get(sys.argv[1], lambda path: read_image(path, sys.argv[1]))
def memory(key):
    return int(next(line for line in open("/proc/self/status") if line.startswith(key)).split()[1]) / 1e3
for path in sys.argv[2:]:
    open("/proc/self/clear_refs", "w").write("5")
    before, size, error = memory("VmRSS"), 0, ""
    try:
        size = read(path).nbytes / 1e6
    except ValueError as reason:
        error = reason
    print(memory("VmHWM") - before, size, error, sep="|")
"""


def measure(reader: str, *paths: Path) -> list[tuple[float, float, str]]:
    """Return the memory in MB, the size of the result in MB, and the error, of each file but the first.

    Args:
        reader: "RGB" or "BGR", "labels", "ids".
        paths: the files.
    """
    command = [sys.executable, "-c", MEASURE, reader, *map(str, paths)]
    lines = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    return [(float(taken), float(size), error) for taken, size, error in (line.split("|") for line in lines[1:])]


def bombs() -> dict[str, bytes]:
    """Small files whose headers speak of 65,000 x 65,000 pixels or more, in every format."""
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    png = png_of([(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1 << 20))), (b"IEND", b"")])
    jpeg = bytearray(encode(photograph(), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65000, 65000)
    canvas = b"\0\0\0\0" + (59999).to_bytes(3, "little") * 2
    webp = encode(photograph(), "WEBP")[12:]
    webp = b"WEBPVP8X" + struct.pack("<I", 10) + canvas + webp
    tiff = bytearray(encode(photograph(), "TIFF"))
    for tag, kind in ((256, 4), (257, 4), (278, 4)):  # width, length, rows per strip
        place = next(p for k in (3, 4) if (p := tiff.find(struct.pack("<HHI", tag, k, 1))) >= 0)
        tiff[place : place + 12] = struct.pack("<HHII", tag, kind, 1, 60000)
    bmp = bytearray(encode(photograph(), "BMP"))
    bmp[18:26] = struct.pack("<ii", 60000, 60000)
    return {
        "png": png,
        "jpg": bytes(jpeg),
        "webp": b"RIFF" + struct.pack("<I", len(webp)) + webp,
        "tif": bytes(tiff),
        "bmp": bytes(bmp),
        "ppm": b"P6 60000 60000 255\n" + bytes(100),
        "gif": b"GIF89a" + struct.pack("<HH", 60000, 60000) + encode(photograph(), "GIF")[10:],
    }


@pytest.mark.parametrize("suffix", list(bombs()))
def test_headers_of_too_many_pixels_are_refused_by_every_reader(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"bomb.{suffix}"
    file.write_bytes(bombs()[suffix])
    for read in READERS:
        with pytest.raises(
            ImageError, match=rf"bomb\.{suffix}.*pixels are more than the limit of 180,000,000.*MAX_PIX"
        ):
            read(str(file))


@linux
def test_a_refusal_takes_little_memory(tmp_path: Path, image: Path) -> None:
    """Bombs, and a file of 432 MB of pixels with one wrong bit."""
    large = bytearray(encode(Image.new("RGB", (12000, 12000)), "PNG", compress_level=1))
    large[len(large) // 2] ^= 4
    paths = [tmp_path / f"bomb.{suffix}" for suffix in bombs()] + [tmp_path / "large.png"]
    for path, content in zip(paths, [*bombs().values(), bytes(large)], strict=True):
        path.write_bytes(content)
    for path, (taken, _, error) in zip(paths, measure("RGB", image, *paths), strict=True):
        assert str(path) in error
        assert taken < 200


def large_files(folder: Path, reader: str) -> list[Path]:
    """Write files of 20 million pixels that a reader takes: plain, turned, of palettes, compressed and not."""
    exif = Image.Exif()
    exif[0x0112] = 6
    if reader in ("RGB", "BGR"):
        image = photograph(300, 400).resize((5000, 4000))
        forms: dict[str, dict] = {"turned.jpg": {"exif": exif}, "a.png": {"compress_level": 1}}
        forms |= {"a.jpg": {}, "a.tif": {}, "turned.tif": {"exif": exif}, "a.bmp": {}, "a.ppm": {}, "grey.tif": {}}
        forms |= {"deflate.tif": {"compression": "tiff_adobe_deflate"}, "palette.png": {"compress_level": 1}}
        others = {"grey.tif": image.convert("L"), "palette.png": image.convert("P")}
    else:
        image = Image.fromarray(np.kron(labels(20, 400, 500), np.ones((10, 10))).astype(np.uint8))
        deep = Image.fromarray(np.asarray(image) * np.uint16(1000))
        forms = {
            "a.png": {},
            "palette.png": {},
            "deep.png": {},
            "a.tif": {},
            "deep.tif": {},
            "turned.png": {"exif": exif},
        }
        others = {"palette.png": image.convert("P"), "deep.png": deep, "deep.tif": deep}
        if reader == "ids":
            image, forms = image.convert("RGB"), {"a.png": {}}
    for name, options in forms.items():
        others.get(name, image).save(folder / name, **options)
    return [folder / name for name in forms]


@linux
@pytest.mark.parametrize(
    "reader", ["RGB", *(pytest.param(name, marks=pytest.mark.slow) for name in ("BGR", "labels", "ids"))]
)
def test_decoding_takes_at_most_half_more_than_the_result(tmp_path: Path, reader: str) -> None:
    paths = large_files(tmp_path, reader)
    photograph().convert("RGB" if reader != "labels" else "L").save(tmp_path / "small.png")
    for path, (taken, size, error) in zip(paths, measure(reader, tmp_path / "small.png", *paths), strict=True):
        pixel = {"labels": 2 if path.stem == "deep" else 1, "ids": 4}.get(reader, 3)
        assert (size, error) == (20 * pixel, "")
        mapped = path.stat().st_size / 1e6 if path.stem == "deflate" else 0  # libtiff maps the file into memory
        assert taken <= 1.5 * size + mapped, path.name


def test_the_limit_is_a_number_of_pixels(tmp_path: Path, image: Path) -> None:
    pixels = read_image(str(image), "RGB")
    count = pixels.shape[0] * pixels.shape[1]
    np.testing.assert_array_equal(read_image(str(image), "RGB", count), pixels)
    with pytest.raises(ImageError, match=f"limit of {count - 1}"):
        read_image(str(image), "RGB", count - 1)
    set_max_pixels(count - 1)
    try:
        for read in READERS:
            with pytest.raises(ImageError, match=f"limit of {count - 1}"):
                read(str(image))
    finally:
        set_max_pixels(MAX_PIXELS)
    with pytest.raises(ValueError, match="MAX_PIXELS is 0"):
        set_max_pixels(0)


@pytest.mark.parametrize("kind", ["TIFF", "BMP"])
def test_the_limit_may_be_beyond_pillows(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's own limit neither warns nor refuses, and is what it was afterwards."""
    photograph().save(tmp_path / "a", kind)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_image(str(tmp_path / "a"), "RGB").shape == (60, 80, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("kind", ["zTXt", "iTXt"])
def test_compressed_texts_that_grow(tmp_path: Path, kind: str) -> None:
    """64 MB in some kB; the pixels are sound, so they are read, or the file is named."""
    text = zlib.compress(bytes(64 << 20))
    chunk = b"Raw profile type exif\0" + (b"\0" if kind == "zTXt" else b"\1\0\0\0") + text
    pixels = zlib.compress(b"\0" + bytes(9))
    header = struct.pack(">IIBBBBB", 3, 1, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (kind.encode(), chunk), (b"IDAT", pixels), (b"IEND", b"")]
    (tmp_path / "text.png").write_bytes(png_of(chunks))
    for read in READERS[:1] + READERS[2:]:
        with pytest.raises(ImageError, match=r"text\.png"):
            read(str(tmp_path / "text.png"))


def test_large_texts_that_are_meant_are_read_over(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("Comment", "x" * 100_000, zip=True)
    photograph().save(tmp_path / "a.png", pnginfo=info)
    np.testing.assert_array_equal(read_image(str(tmp_path / "a.png"), "RGB"), np.asarray(photograph()))


@pytest.mark.parametrize("name", ["a.png", "a.eps", "a.jpg"])
def test_postscript_starts_no_program(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands such files to Ghostscript, whatever their names are."""
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    (tmp_path / name).write_bytes(script)

    def started(*arguments: object, **options: object) -> None:
        raise AssertionError(f"started {arguments}")

    monkeypatch.setattr(subprocess, "Popen", started)
    for read in READERS:
        with pytest.raises(ImageError, match=rf"{name}: not an image of the formats.*PNG, JPEG"):
            read(str(tmp_path / name))
    with pytest.raises(ImageError, match="https://host/a: not an image"):
        image_from_bytes(script, "https://host/a")


@pytest.mark.parametrize("kind", ["ICO", "TGA", "PCX", "JPEG2000", "ICNS", "DDS", "SGI"])
def test_other_formats_are_refused(tmp_path: Path, kind: str) -> None:
    file = io.BytesIO()
    photograph(64, 64).save(file, kind)
    (tmp_path / "other.png").write_bytes(file.getvalue())
    with pytest.raises(ImageError, match=r"other\.png: not an image of the formats"):
        read_image(str(tmp_path / "other.png"), "RGB")
