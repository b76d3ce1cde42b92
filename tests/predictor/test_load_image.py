"""Pictures of every kind: files, arrays, URLs, folders and streams."""

from __future__ import annotations

import http.server
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from servers import LocalServer

from mask2former import Predictor
from mask2former.download import DownloadError
from mask2former.predictor import Result, load_image
from mask2former.predictor.load_image import find_pictures, load_picture


def same(one: Result, other: Result) -> bool:
    return np.array_equal(one.panoptic, other.panoptic) and np.array_equal(one.semantic, other.semantic)


def test_files_arrays_and_images_are_the_same_picture(
    predictor: Predictor, picture: np.ndarray, tmp_path: Path
) -> None:
    file = tmp_path / "a b.png"
    Image.fromarray(picture).save(file)
    expected = predictor(picture)
    for source in (file, str(file), Image.fromarray(picture), Image.open(file)):
        result = predictor(source)
        assert np.array_equal(result.image, picture)
        assert same(result, expected)
    assert predictor(file).file_name == "a b.png"
    assert expected.file_name is None


def test_channels(picture: np.ndarray) -> None:
    grey = picture[:, :, 0]
    for source in (grey, grey[:, :, None], Image.fromarray(grey)):
        loaded = load_picture(source).pixels
        assert loaded.shape == picture.shape
        assert np.array_equal(loaded[:, :, 2], grey)
    alpha = np.dstack([picture, grey])
    for source in (alpha, Image.fromarray(alpha)):
        assert np.array_equal(load_picture(source).pixels, picture)


def test_pictures_are_turned_as_exif_says(picture: np.ndarray, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(picture).save(tmp_path / "turned.png", exif=exif)
    for source in (tmp_path / "turned.png", Image.open(tmp_path / "turned.png")):
        assert np.array_equal(load_picture(source).pixels, np.rot90(picture, -1))


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (np.zeros((8, 8, 3)), ValueError, r"array of float64.*uint8"),
        (np.zeros((3, 8, 9), np.uint8), ValueError, r"shape \(3, 8, 9\).*transpose"),
        (np.zeros((0, 8, 3), np.uint8), ValueError, r"shape \(0, 8, 3\)"),
        (torch.zeros(3, 8, 8), TypeError, r"found Tensor.*permute"),
        (Image.new("I;16", (8, 8)), ValueError, "more than 8 bits"),
        ("nowhere.jpg", FileNotFoundError, "no such picture"),
    ],
)
def test_what_is_no_picture(source: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_picture(source)


@pytest.mark.parametrize("shape", [(8, 9, 3), (8, 9, 4), (8, 9), (8, 9, 1)])
def test_arrays_stay_their_owners(shape: tuple[int, ...]) -> None:
    """What a camera writes into its array afterwards does not get into the result, nor the other way round."""
    array = np.zeros(shape, np.uint8)
    pixels = load_picture(array).pixels
    array[:] = 7
    assert not pixels.any()
    pixels[:] = 9
    assert (array == 7).all()


def test_colours_of_sixteen_bits(tmp_path: Path) -> None:
    file = tmp_path / "deep.png"
    cv2.imwrite(str(file), np.full((8, 8, 3), 4000, np.uint16))
    for source in (file, Image.open(file)):
        with pytest.raises(ValueError, match="more than 8 bits"):
            load_picture(source)


@pytest.fixture
def server(picture: np.ndarray, tmp_path: Path) -> Iterator[str]:
    """The URL of a server with a picture and a text."""
    Image.fromarray(picture).save(tmp_path / "picture.png")
    (tmp_path / "text.png").write_text("no picture")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None:
            pass

    with LocalServer(Handler).running() as server:
        yield server.url


def test_urls(server: str, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_picture(f"{server}/picture.png?size=large")
    assert np.array_equal(loaded.pixels, picture)
    assert loaded.name == "picture.png"
    with pytest.raises(DownloadError, match=r"nowhere\.png: the server answers 404"):
        load_picture(f"{server}/nowhere.png")
    with pytest.raises(ValueError, match=r"text\.png: not a picture"):
        load_picture(f"{server}/text.png")
    monkeypatch.setattr(load_image, "MOST_BYTES", 100)
    with pytest.raises(DownloadError, match="by hand"):
        load_picture(f"{server}/picture.png")


def test_no_network() -> None:
    with pytest.raises(DownloadError, match=r"cannot be had.*by hand"):
        load_picture("http://host.invalid/a.jpg")


def test_folders_lists_and_globs(predictor: Predictor, picture: np.ndarray, tmp_path: Path) -> None:
    """Pictures of different sizes do not change one another's results."""
    sizes = {"a": picture, "b": picture[:40, :50], "c": picture[:40, :50][::-1], "d": picture}
    for name, pixels in sizes.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    alone = {name: predictor(pixels) for name, pixels in sizes.items()}
    predictor.batch_size = 3
    try:
        together = predictor(tmp_path)
    finally:
        predictor.batch_size = 1
    assert [result.file_name for result in together] == ["a.png", "b.png", "c.png", "d.png"]
    for result, name in zip(together, sizes, strict=True):
        assert result.semantic.shape == sizes[name].shape[:2]
        assert (result.semantic != alone[name].semantic).mean() < 0.01, "a batch rounds otherwise"
    assert [result.file_name for result in predictor(str(tmp_path / "[ab].png"))] == ["a.png", "b.png"]
    assert len(predictor([tmp_path / "a.png", picture])) == 2
    assert predictor([]) == []
    with pytest.raises(FileNotFoundError, match="no such file"):
        find_pictures(tmp_path / "*.jpg")


def test_a_stream_reads_no_further_than_its_batch(predictor: Predictor, picture: np.ndarray) -> None:
    read: list[int] = []

    def frames() -> Iterator[np.ndarray]:
        for number in range(5):
            read.append(number)
            yield picture

    stream = predictor.stream(frames(), batch_size=2)
    next(stream)
    assert read == [0, 1]
    assert len(list(stream)) == 4


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_has_a_picture(predictor: Predictor, folder: Path, size: int) -> None:
    with pytest.raises(ValueError, match=rf"batch_size is {size}; .*at least 1"):
        predictor.stream([], batch_size=size)
    with pytest.raises(ValueError, match=rf"batch_size is {size}; .*at least 1"):
        Predictor(folder, batch_size=size)
