"""Images of every kind: files, arrays, URLs, folders and streams."""

from __future__ import annotations

import http.server
import io
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
from mask2former.predictor import Result
from mask2former.predictor.load_image import find_images, load_image


def same(one: Result, other: Result) -> bool:
    return np.array_equal(one.panoptic, other.panoptic) and np.array_equal(one.semantic, other.semantic)


def test_files_arrays_and_images_are_the_same_image(predictor: Predictor, image: np.ndarray, tmp_path: Path) -> None:
    file = tmp_path / "a b.png"
    Image.fromarray(image).save(file)
    expected = predictor(image)
    for source in (file, str(file), Image.fromarray(image), Image.open(file)):
        result = predictor(source)
        assert np.array_equal(result.image, image)
        assert same(result, expected)
    assert predictor(file).file_name == "a b.png"
    assert expected.file_name is None


def test_channels(image: np.ndarray) -> None:
    grey = image[:, :, 0]
    for source in (grey, grey[:, :, None], Image.fromarray(grey)):
        loaded = load_image(source).pixels
        assert loaded.shape == image.shape
        assert np.array_equal(loaded[:, :, 2], grey)
    alpha = np.dstack([image, grey])
    for source in (alpha, Image.fromarray(alpha)):
        assert np.array_equal(load_image(source).pixels, image)


def test_images_are_turned_as_exif_says(image: np.ndarray, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(image).save(tmp_path / "turned.png", exif=exif)
    for source in (tmp_path / "turned.png", Image.open(tmp_path / "turned.png")):
        assert np.array_equal(load_image(source).pixels, np.rot90(image, -1))


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (np.zeros((8, 8, 3)), ValueError, r"array of float64.*uint8"),
        (np.zeros((3, 8, 9), np.uint8), ValueError, r"shape \(3, 8, 9\).*transpose"),
        (np.zeros((0, 8, 3), np.uint8), ValueError, r"shape \(0, 8, 3\)"),
        (object(), TypeError, r"found object"),
        (Image.new("I;16", (8, 8)), ValueError, "more than 8 bits"),
        ("nowhere.jpg", FileNotFoundError, "no such image"),
    ],
)
def test_what_is_no_image(source: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_image(source)


@pytest.mark.parametrize("shape", [(8, 9, 3), (8, 9, 4), (8, 9), (8, 9, 1)])
def test_arrays_stay_their_owners(shape: tuple[int, ...]) -> None:
    """What a camera writes into its array afterwards does not get into the result, nor the other way round."""
    array = np.zeros(shape, np.uint8)
    pixels = load_image(array).pixels
    array[:] = 7
    assert not pixels.any()
    pixels[:] = 9
    assert (array == 7).all()


def test_colours_of_sixteen_bits(tmp_path: Path) -> None:
    file = tmp_path / "deep.png"
    cv2.imwrite(str(file), np.full((8, 8, 3), 4000, np.uint16))
    for source in (file, Image.open(file)):
        with pytest.raises(ValueError, match="more than 8 bits"):
            load_image(source)


@pytest.fixture
def server(image: np.ndarray, tmp_path: Path) -> Iterator[str]:
    """The URL of a server with an image and a text."""
    Image.fromarray(image).save(tmp_path / "image.png")
    (tmp_path / "text.png").write_text("no image")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None:
            pass

    with LocalServer(Handler).running() as server:
        yield server.url


def test_urls(server: str, image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_image(f"{server}/image.png?size=large")
    assert np.array_equal(loaded.pixels, image)
    assert loaded.name == "image.png"
    with pytest.raises(DownloadError, match=r"nowhere\.png: the server answers 404"):
        load_image(f"{server}/nowhere.png")
    with pytest.raises(ValueError, match=r"text\.png: not an image"):
        load_image(f"{server}/text.png")
    monkeypatch.setattr("mask2former.predictor.load_image.MOST_BYTES", 100)
    with pytest.raises(DownloadError, match="by hand"):
        load_image(f"{server}/image.png")


def test_no_network() -> None:
    with pytest.raises(DownloadError, match=r"cannot be reached.*by hand"):
        load_image("http://host.invalid/a.jpg")


def test_folders_lists_and_globs(predictor: Predictor, image: np.ndarray, tmp_path: Path) -> None:
    """Images of different sizes do not change one another's results."""
    sizes = {"a": image, "b": image[:40, :50], "c": image[:40, :50][::-1], "d": image}
    for name, pixels in sizes.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    (tmp_path / "notes.txt").write_text("no image")
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
    assert len(predictor([tmp_path / "a.png", image])) == 2
    assert predictor([]) == []
    with pytest.raises(FileNotFoundError, match="no such file"):
        find_images(tmp_path / "*.jpg")


def test_a_stream_reads_no_further_than_its_batch(predictor: Predictor, image: np.ndarray) -> None:
    read: list[int] = []

    def frames() -> Iterator[np.ndarray]:
        for number in range(5):
            read.append(number)
            yield image

    stream = predictor.stream(frames(), batch_size=2)
    next(stream)
    assert read == [0, 1]
    assert len(list(stream)) == 4


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_has_an_image(predictor: Predictor, folder: Path, size: int) -> None:
    with pytest.raises(ValueError, match=rf"batch_size is {size}; .*at least 1"):
        predictor.stream([], batch_size=size)
    with pytest.raises(ValueError, match=rf"batch_size is {size}; .*at least 1"):
        Predictor(folder, batch_size=size)


def test_contents_of_files(image: np.ndarray, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.fromarray(image).save(file)
    content = file.read_bytes()
    for source in (content, bytearray(content), memoryview(content), io.BytesIO(content)):
        loaded = load_image(source)
        assert np.array_equal(loaded.pixels, image) and loaded.name is None
    with file.open("rb") as opened:
        loaded = load_image(opened)
    assert np.array_equal(loaded.pixels, image) and loaded.name == "a.png"
    with file.open(encoding="latin-1") as text, pytest.raises(TypeError, match=r"gives str, not bytes.*'rb'"):
        load_image(text)
    with pytest.raises(ValueError, match="image of bytes: not an image"):
        load_image(b"no image")


def test_tensors(image: np.ndarray) -> None:
    last = torch.from_numpy(image)
    grey = np.repeat(image[:, :, :1], 3, axis=2)
    alpha = torch.cat([last, last[:, :, :1]], dim=2)
    for source, expected in {
        last: image,
        last.permute(2, 0, 1): image,
        alpha: image,
        alpha.permute(2, 0, 1): image,
        last[:, :, 0]: grey,
        last[None, :, :, 0]: grey,
    }.items():
        pixels = load_image(source).pixels
        assert np.array_equal(pixels, expected)
        pixels[:] = 0
        assert torch.equal(last, torch.from_numpy(image)) and image.any()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (torch.zeros(3, 8, 4, dtype=torch.uint8), r"\(3, 8, 4\) does not say which.*permute\(1, 2, 0\)"),
        (torch.zeros(1, 8, 1, dtype=torch.uint8), r"\(1, 8, 1\) does not say which"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), r"is a batch: give list\(x\)"),
        (torch.zeros(3, 8, 8), r"array of float32.*uint8"),
        (torch.zeros(3, 8, 8, dtype=torch.bfloat16), r"array of float32.*uint8"),
        (torch.zeros(5, 8, 8, dtype=torch.uint8), r"shape \(5, 8, 8\)"),
    ],
)
def test_tensors_that_are_no_image(source: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_image(source)


def test_frames_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """Some programs number them without zeros; folders of a glob are numbered so, too."""
    wanted = ["a 9.png", "a 10 b 2.png", "a 10 b 10.png", "frame02.png", "frame2.png", "frame11.jpg"]
    for folder in ("2", "10"):
        (tmp_path / folder).mkdir()
        for name in reversed(wanted):
            (tmp_path / folder / name).touch()
        (tmp_path / folder / "._frame2.png").touch()  # as archives of macOS have them
    assert [file.name for file in find_images(tmp_path / "2")] == wanted
    both = [file.relative_to(tmp_path) for file in find_images(tmp_path / "*" / "*.jpg")]
    assert both == [Path("2", "frame11.jpg"), Path("10", "frame11.jpg")]
