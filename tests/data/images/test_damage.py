"""Damaged image files: every one is refused by an error that names it, or gives the very same pixels.

Formats without checksums cannot keep that: a turned bit in the middle of a JPEG, WebP or uncompressed TIFF file may be
another sound file. Of those, what another decoder notices is refused, and no error is bare.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from damage import encode, files, mutations, photograph
from PIL import Image

from mask2former.data.images.limits import ImageError
from mask2former.data.images.read import file_size, read_image

CHECKSUMS = ("png image", "png labels", "png palette labels", "png labels of 16 bits", "panoptic png", "tiff, deflate")
OTHERS = tuple(name for name in files() if name not in CHECKSUMS)
# What libjpeg says of a list of files, on the standard error stream of a process of its own.
LIBJPEG = """
import sys, cv2
for file in sys.argv[1:]:
    print(file, file=sys.stderr, flush=True)
    cv2.imread(file, cv2.IMREAD_COLOR)
"""


def outcome(name: str, folder: Path, count: int, seed: int = 0) -> Counter[str]:
    """Count what becomes of damaged files: same, other (pixels), refused."""
    suffix, content, read = files()[name]
    path = folder / f"damaged{suffix}"
    path.write_bytes(content)
    sound = read(str(path))
    found: Counter[str] = Counter()
    for damaged in mutations(content, count, seed):
        path.write_bytes(damaged)
        try:
            pixels = read(str(path))
        except ImageError as error:
            assert str(path) in str(error)
            found["refused"] += 1
        else:
            found["same" if np.array_equal(pixels, sound) else "other"] += 1
    return found


@pytest.mark.parametrize("name", CHECKSUMS)
def test_damage_of_files_with_checksums_is_refused_or_harmless(tmp_path: Path, name: str) -> None:
    found = outcome(name, tmp_path, 100)
    assert found["other"] == 0 and found["refused"] > 80, found


@pytest.mark.parametrize("name", OTHERS)
def test_damage_of_other_files_ends_in_no_bare_error(tmp_path: Path, name: str) -> None:
    assert outcome(name, tmp_path, 100)["refused"] > 20


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.parametrize("name", CHECKSUMS + OTHERS)
def test_thousands_of_mutations(tmp_path: Path, name: str) -> None:
    found = outcome(name, tmp_path, 4000, seed=1)
    print(name, dict(found))
    assert name in OTHERS or found["other"] == 0, found


@pytest.mark.parametrize("progressive", [False, True])
def test_what_libjpeg_warns_of_is_refused(tmp_path: Path, progressive: bool) -> None:
    paths = []
    for number, content in enumerate(mutations(encode(photograph(), "JPEG", progressive=progressive), 100, 7)):
        paths.append(tmp_path / f"{number}.jpg")
        paths[-1].write_bytes(content)
    said = subprocess.run([sys.executable, "-c", LIBJPEG, *paths], stderr=subprocess.PIPE, text=True, check=True).stderr
    warned = [part.split("\n")[0] for part in said.split(f"{tmp_path}/") if "Corrupt" in part or "Premature" in part]
    assert len(warned) > 10
    for name in warned:
        with pytest.raises(ImageError, match=name.replace(".", r"\.")):
            read_image(str(tmp_path / name), "RGB")


def test_what_others_write_to_standard_error_is_not_lost(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """libjpeg's remark on an unknown version of the header is no damage."""
    content = bytearray(encode(photograph(), "JPEG"))
    content[content.index(b"JFIF\0") + 5] = 9
    (tmp_path / "a.jpg").write_bytes(content)
    pixels = read_image(str(tmp_path / "a.jpg"), "RGB")
    assert "unknown JFIF revision" in capfd.readouterr().err
    with Image.open(tmp_path / "a.jpg") as image:
        np.testing.assert_array_equal(pixels, np.asarray(image))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "bmp"])
def test_cut_files_are_refused_without_decoding_too(tmp_path: Path, suffix: str) -> None:
    """The quick check of a file's size finds the end missing."""
    kind = {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper())
    content = encode(photograph(), kind)
    (tmp_path / f"cut.{suffix}").write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(ImageError, match=rf"cut\.{suffix}"):
        file_size(str(tmp_path / f"cut.{suffix}"))
