"""Pixels that are read by other ways than Pillow's whole image: as stored, by OpenCV, or as if they were grey."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from damage import encode
from PIL import Image, ImageOps

from mask2former.data.images.read import file_size, image_from_bytes, read_image, read_labels

tifffile = pytest.importorskip("tifffile")  # writes what Pillow cannot
HEIGHT, WIDTH = 70, 90
rng = np.random.default_rng(0)
COLOURS = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
FORMS = {
    "strips": {"rowsperstrip": 7},
    "tiles": {"tile": (32, 48)},
    "planes": {"planarconfig": "separate"},
    "one strip": {},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_of_every_form_gives_the_pixels_that_were_written(
    tmp_path: Path, form: str, order: str, compression: str | None
) -> None:
    file = tmp_path / "a.tif"
    for predictor in (False, True) if compression else (False,):
        options = {**FORMS[form], "compression": compression, "predictor": predictor, "byteorder": order}
        tifffile.imwrite(
            file, COLOURS.transpose(2, 0, 1) if form == "planes" else COLOURS, photometric="rgb", **options
        )
        np.testing.assert_array_equal(read_image(str(file), "RGB"), COLOURS)
        np.testing.assert_array_equal(read_image(str(file), "BGR"), COLOURS[..., ::-1])
        if form == "planes":
            continue
        for labels in (COLOURS[..., 0], COLOURS[..., 0] * np.uint16(257)):
            tifffile.imwrite(file, labels, photometric="minisblack", **options)
            np.testing.assert_array_equal(read_labels(str(file)), labels)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_values_of_tiff_that_are_no_plain_colours(tmp_path: Path, compression: str | None) -> None:
    """White is 0; an alpha channel; a palette: the oracle is Pillow's whole image."""
    file = tmp_path / "a.tif"
    palette = np.stack([np.arange(256) * 256 + value for value in (1, 2, 3)]).astype(np.uint16)
    for pixels, options in (
        (COLOURS[..., 0], {"photometric": "miniswhite"}),
        (np.dstack([COLOURS, COLOURS[..., :1]]), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
        (np.dstack([COLOURS, COLOURS[..., :1]]), {"photometric": "rgb", "extrasamples": ["assocalpha"]}),
        (np.dstack([COLOURS, COLOURS[..., :1]]), {"photometric": "rgb", "extrasamples": ["unspecified"]}),
        (COLOURS[..., 1], {"photometric": "palette", "colormap": palette}),
    ):
        tifffile.imwrite(file, pixels, compression=compression, **options)
        with Image.open(file) as image:
            expected = np.asarray(image.convert("RGB"))
        np.testing.assert_array_equal(read_image(str(file), "RGB"), expected)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_an_orientation_in_xmp_counts_in_tiff_too(tmp_path: Path, compression: str | None) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    file = tmp_path / "a.tif"
    Image.fromarray(COLOURS).save(file, tiffinfo={700: xmp}, compression=compression)
    with Image.open(file) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert expected.shape == (WIDTH, HEIGHT, 3)
    np.testing.assert_array_equal(read_image(str(file), "RGB"), expected)
    assert file_size(str(file)) == (WIDTH, HEIGHT)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
@pytest.mark.parametrize("code", [1, 6])
def test_compressions_of_tiff(compression: str, code: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = code
    for pixels in (COLOURS, COLOURS[..., 0]):
        content = encode(Image.fromarray(pixels), "TIFF", compression=compression, exif=exif)
        expected = pixels if code == 1 else np.rot90(pixels, -1)
        found = image_from_bytes(content, "a.tif")
        np.testing.assert_array_equal(found, expected if pixels.ndim == 3 else np.dstack([expected] * 3))


@pytest.mark.parametrize("width", [1, 2, 3, 90])  # rows end at multiples of 4 bytes
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA"])
@pytest.mark.parametrize("kind", ["BMP", "PPM", "TIFF"])
def test_formats_without_compression(kind: str, mode: str, width: int) -> None:
    image = Image.fromarray(COLOURS[:, :width]).convert(mode)
    if kind == "PPM" and mode == "P":
        pytest.skip("this format has no palette")
    content = encode(image, kind)
    np.testing.assert_array_equal(image_from_bytes(content, "a"), np.asarray(image.convert("RGB")))


def test_a_bitmap_from_above() -> None:
    """A negative height says that the first row comes first."""
    content = bytearray(encode(Image.fromarray(COLOURS), "BMP"))
    content[22:26] = (-HEIGHT).to_bytes(4, "little", signed=True)
    np.testing.assert_array_equal(image_from_bytes(bytes(content), "a.bmp"), COLOURS[::-1])


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize("code", [1, 3, 6, 7])
def test_large_images_that_are_read_in_bands(tmp_path: Path, suffix: str, order: str, code: int) -> None:
    pixels = np.random.default_rng(code).integers(0, 256, (1301, 1103, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = code if suffix != "bmp" else 1
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}", **({} if suffix == "bmp" else {"exif": exif}))
    with Image.open(tmp_path / f"a.{suffix}") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    found = read_image(str(tmp_path / f"a.{suffix}"), order)
    np.testing.assert_array_equal(found, expected if order == "RGB" else expected[..., ::-1])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("code", [1, 6])
def test_large_labels_in_png(tmp_path: Path, dtype: type, code: int) -> None:
    """Numbers of a palette with transparent colours, and of 16 bits."""
    labels = np.random.default_rng(code).integers(0, np.iinfo(dtype).max, (1201, 1003)).astype(dtype)
    image, exif, options = Image.fromarray(labels), Image.Exif(), {}
    exif[0x0112] = code
    if dtype == np.uint8:
        image.putpalette(rng.integers(0, 256, 768, dtype=np.uint8).tobytes())
        options = {"transparency": bytes(range(256))}
    image.save(tmp_path / "a.png", exif=exif, **options)
    expected = labels if code == 1 else np.rot90(labels, -1)
    np.testing.assert_array_equal(read_labels(str(tmp_path / "a.png")), expected)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_palettes_of_few_colours(tmp_path: Path, depth: int) -> None:
    labels = np.random.default_rng(depth).integers(0, 1 << depth, (HEIGHT, WIDTH)).astype(np.uint8)
    image = Image.fromarray(labels)
    image.putpalette([9, 8, 7] * (1 << depth))
    image.save(tmp_path / "a.png", bits=depth)
    np.testing.assert_array_equal(read_labels(str(tmp_path / "a.png")), labels)
