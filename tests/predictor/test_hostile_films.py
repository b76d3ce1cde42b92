"""Films as phones, cameras and broken programs write them: each is read rightly, or refused in clear words."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mask2former.predictor.film import add_tracks
from mask2former.predictor.video import Frames
from mask2former.predictor.video_file import VideoFile
from mask2former.predictor.writer import ResultWriter
from mask2former.tracking import TracksFile

GROUND, CORNER = (40, 40, 40), (230, 20, 20)


def scene(height: int = 64, width: int = 96, channels: int = 3) -> np.ndarray:
    """A red quarter at the top left, transparent where there is a fourth channel."""
    image = np.full((height, width, channels), 255, np.uint8)
    image[..., :3] = GROUND
    image[: height // 4, : width // 4, :3] = CORNER
    image[: height // 4, : width // 4, 3:] = 0
    return image


def write(
    file: Path, codec: str, pixels: str, images: Any, times: Sequence[int] | None = None, options: Any = None
) -> Path:
    """Write a film by PyAV alone; times are in thousandths of a second."""
    with av.open(str(file), "w", options=options) as output:
        stream = output.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], pixels
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgba" if image.shape[2] == 4 else "rgb24")
            if times:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file


def red(pixels: np.ndarray) -> tuple[int, int, int, int]:
    """The box of what is red: top, bottom, left, right."""
    rows, columns = np.nonzero((pixels[..., 0] > 150) & (pixels[..., 1] < 90))
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "size"),
    [
        ("tenbit.mkv", "ffv1", "yuv420p10le", (64, 96, 3)),
        ("alpha.mov", "png", "rgba", (64, 96, 4)),
        ("odd.mkv", "ffv1", "bgr0", (65, 97, 3)),
        ("thin.mkv", "ffv1", "bgr0", (4, 201, 3)),
        ("full.avi", "mjpeg", "yuvj420p", (64, 96, 3)),
    ],
)
def test_kinds_of_pixels(tmp_path: Path, name: str, codec: str, pixels: str, size: tuple[int, int, int]) -> None:
    frames = Frames(write(tmp_path / name, codec, pixels, [scene(*size)] * 3))
    assert len(frames) == 3
    for frame in frames:
        assert frame.pixels.shape == (*size[:2], 3) and frame.pixels.dtype == np.uint8
        for place, colour in (((0, 0), CORNER), ((-1, -1), GROUND)):
            assert np.abs(frame.pixels[place].astype(int) - colour).max() < 12


@pytest.mark.parametrize(
    ("matrix", "shape", "corner"),
    [
        ((0, 1, -1, 0), (96, 64, 3), (0, 24, 48, 64)),  # a quarter turn clockwise: at the top right
        ((-1, 0, 0, -1), (64, 96, 3), (48, 64, 72, 96)),
        ((0, -1, 1, 0), (96, 64, 3), (72, 96, 0, 16)),
    ],
)
def test_a_phones_film_is_turned_as_it_says(
    tmp_path: Path, matrix: tuple[int, ...], shape: tuple[int, ...], corner: tuple[int, ...]
) -> None:
    data = bytearray(write(tmp_path / "film.mp4", "libx264", "yuv420p", [scene()] * 2).read_bytes())
    place = data.index(b"tkhd") + 44  # ISO/IEC 14496-12, 8.3.2: version 0
    a, b, c, d = (value << 16 for value in matrix)
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "film.mp4").write_bytes(data)
    frame = next(iter(Frames(tmp_path / "film.mp4")))
    assert frame.pixels.shape == shape
    assert np.abs(np.subtract(red(frame.pixels), corner)).max() <= 1


def test_times_begin_at_zero_and_need_no_rate(tmp_path: Path) -> None:
    times = [5000, 5040, 5090, 5300, 5900]
    uneven = Frames(write(tmp_path / "uneven.mp4", "libx264", "yuv420p", [scene()] * 5, times))
    assert [round(frame.seconds, 3) for frame in uneven] == [0, 0.04, 0.09, 0.3, 0.9]
    bare = list(Frames(write(tmp_path / "bare.h264", "libx264", "yuv420p", [scene()] * 3)))
    assert [frame.seconds for frame in bare] == [None] * 3
    copy = VideoFile(tmp_path / "copy.mp4", 10)
    for frame in bare:
        copy.write(frame.pixels, frame.seconds)
    copy.close()
    assert [round(frame.seconds, 3) for frame in Frames(tmp_path / "copy.mp4")] == [0, 0.1, 0.2]


def test_a_film_of_one_frame(tmp_path: Path) -> None:
    frames = Frames(write(tmp_path / "one.mp4", "libx264", "yuv420p", [scene()]))
    assert len(frames) == 1 and [frame.seconds for frame in frames] == [0]


def test_what_has_no_frames_says_so(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as output:
        stream = output.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with pytest.raises(OSError, match=r"sound\.mp4: there are no images in it, only audio"):
        Frames(tmp_path / "sound.mp4")
    with av.open(str(tmp_path / "none.avi"), "w") as output:
        stream = output.add_stream("mjpeg", rate=10)
        stream.height, stream.width, stream.pix_fmt = 8, 8, "yuvj420p"
        output.start_encoding()
    with pytest.raises(OSError, match=r"none\.avi: (no frame at all|not a video)"):
        list(Frames(tmp_path / "none.avi"))


def test_damage_in_the_middle_says_how_far_it_went(tmp_path: Path) -> None:
    file = write(tmp_path / "film.mp4", "libx264", "yuv420p", [scene()] * 8)
    with av.open(str(file)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][4]
        place, length = packet.pos, packet.size
    data = bytearray(file.read_bytes())
    data[place : place + length] = b"\x55" * length
    file.write_bytes(data)
    count = 0
    with pytest.raises(OSError, match=r"film\.mp4: frame \d+ cannot be decoded") as raised:
        for _ in Frames(file):
            count += 1
    assert f"frame {count} " in str(raised.value)


@pytest.mark.parametrize("whole", [1, 3, 6])
def test_a_film_that_breaks_off_gives_every_frame_before(tmp_path: Path, whole: int) -> None:
    """Cut within a frame's data: all that are whole come, though the decoder holds some back, and then an error."""
    images = np.random.default_rng(0).integers(0, 256, (8, 64, 96, 3), dtype=np.uint8)
    file = write(tmp_path / "film.mp4", "libx264", "yuv420p", images, options={"movflags": "faststart"})
    with av.open(str(file)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        cut = packets[whole].pos + packets[whole].size // 2
    file.write_bytes(file.read_bytes()[:cut])
    count = 0
    with pytest.raises(OSError, match=rf"film\.mp4: frame {whole} cannot be decoded .*; those before can"):
        for _ in Frames(file):
            count += 1
    assert count == whole


def sizes_change(file: Path) -> Path:
    """Write a film whose frames have two sizes, as of a call over a bad line."""
    with av.open(str(file), "w") as output:
        stream = output.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        for number, size in enumerate([(64, 96), (32, 48), (32, 48), (64, 96)]):
            encoder: Any = av.CodecContext.create("mjpeg", "w")
            encoder.height, encoder.width, encoder.pix_fmt, encoder.time_base = *size, "yuvj420p", Fraction(1, 10)
            frame = av.VideoFrame.from_ndarray(scene(*size), format="rgb24").reformat(format="yuvj420p")
            for packet in encoder.encode(frame):
                packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 10)
                output.mux(packet)
    return file


def test_frames_that_change_their_size_are_read_in_their_own(tmp_path: Path) -> None:
    shapes = [frame.pixels.shape[:2] for frame in Frames(sizes_change(tmp_path / "film.mkv"))]
    assert shapes == [(64, 96), (32, 48), (32, 48), (64, 96)]


@pytest.mark.parametrize("task", ["instance", "panoptic"])
def test_tracks_of_a_film_whose_size_changes_are_of_one_size(tmp_path: Path, task: str) -> None:
    """Fit a frame of half the height and of less width into the middle, as in the drawn film."""
    file = TracksFile(tmp_path / "tracks.json", "film", [1], ["cat"])
    for shape, box in (((40, 60), (10, 4, 30, 12)), ((20, 20), (5, 2, 15, 6))):  # left, top, right, bottom
        mask = np.zeros((1, *shape), bool)
        mask[0, box[1] : box[3], box[0] : box[2]] = True
        none = np.zeros_like(mask)
        values = {"tracks": [1, 2], "classes": [0, 0], "scores": [0.5, 0.5]}
        arrays = {name: np.array(value) for name, value in values.items()}
        instances = SimpleNamespace(masks=np.concatenate([mask, none]), boxes=np.array([box, (0, 0, 0, 0)]), **arrays)
        segments = [{"id": 7, "track_id": 1, "class_id": 0}]
        result: Any = SimpleNamespace(
            instances=instances, panoptic=np.where(mask[0], 7, 0), segments=segments, seconds=None
        )
        add_tracks(file, result, task)
    content = json.loads(file.write().read_text())
    (found,) = content["annotations"]
    assert (content["videos"][0]["height"], content["videos"][0]["width"]) == (40, 60)
    assert found["bboxes"] == [[10, 4, 20, 8], [20, 4, 20, 8]]  # twice as large, after 10 columns at the left
    assert found["areas"] == [160, 160]
    expected = np.zeros((40, 60), np.uint8)
    expected[4:12, 20:40] = 1
    assert np.array_equal(coco_mask.decode(found["segmentations"][1]), expected)
    with pytest.raises(ValueError, match=r"tracks\.json: frame 2 has 5 x 4 pixels, and those before 60 x 40"):
        file.add([1], np.ones((1, 4, 5), bool), np.zeros((1, 4)), [0], [1.0], None)


def test_other_sizes_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = VideoFile(tmp_path / "film.mp4", 10)
    for size in ((40, 60), (20, 60), (20, 60), (9, 300)):
        file.write(scene(*size))
    file.close()
    assert len(list(Frames(tmp_path / "film.mp4"))) == 4
    assert len(caplog.records) == 1 and "60 x 20" in caplog.text


@pytest.mark.parametrize("size", [(1, 5), (5, 1), (1, 1)])
def test_too_small_for_a_film(tmp_path: Path, size: tuple[int, int]) -> None:
    file = VideoFile(tmp_path / "film.mp4", 10)
    with pytest.raises(ValueError, match=f"film.mp4: a film has at least 2 x 2 pixels.*{size[1]} x {size[0]}"):
        file.write(scene(*size))
    file.close()
    assert not file.file.exists()


def test_a_film_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """Fail at the end of a short film, of which the encoder holds all frames until then."""
    file = VideoFile(tmp_path / "missing" / "film.mp4", 10)
    with pytest.raises(OSError, match=r"missing.film\.mp4: the video cannot be written"):
        for _ in range(2):
            file.write(scene())
        file.close()
    file.close()  # once more: nothing is left to do


def test_sound_that_is_not_there(tmp_path: Path) -> None:
    """Refuse it, and list no film as drawn that was not begun."""
    mute = write(tmp_path / "mute.mp4", "libx264", "yuv420p", [scene()])
    file = VideoFile(tmp_path / "film.mp4", 10, sound=mute)
    with pytest.raises(ValueError, match=r"mute\.mp4: it has no sound"):
        file.write(scene())
    file.close()
    writer = ResultWriter(tmp_path / "drawn", ("instance",))
    result: Any = SimpleNamespace(draw=lambda *_, **__: scene(), seconds=0.0)
    with pytest.raises(ValueError, match="it has no sound"):
        writer.add_frame(result, "mute", 10, sound=mute)
    writer.close()
    assert writer.summary() == []


def test_one_film_that_fails_leaves_the_others_whole(tmp_path: Path) -> None:
    """Two tasks of a film are two files; the first one's folder is gone at the end."""
    writer = ResultWriter(tmp_path, ("panoptic", "instance"))
    writer._videos = {
        "panoptic": VideoFile(tmp_path / "gone" / "a.mp4", 10),
        "instance": VideoFile(tmp_path / "b.mp4", 10),
    }
    for video in writer._videos.values():
        video.write(scene())
    with pytest.raises(OSError, match=r"a\.mp4"):
        writer.end_video()
    assert len(list(Frames(tmp_path / "b.mp4"))) == 1
    writer.end_video()


def test_a_part_of_a_film_begins_at_once_and_keeps_its_own_sound(tmp_path: Path) -> None:
    """Write frames 4, 6 and 8 of a film of 1.2 seconds: they take 0.6 seconds, with the sound of these."""
    loud = tmp_path / "loud.mp4"
    with av.open(str(loud), "w") as output:
        stream = output.add_stream("libx264", rate=10)
        heard = output.add_stream("aac", rate=16000)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for _ in range(12):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(scene(), format="rgb24")))
        output.mux(stream.encode(None))
        times = np.arange(19200) / 16000
        tone = np.where(times < 0.4, 0.0, 0.5 * np.sin(times * 2764.6)).astype(np.float32)  # silent for 0.4 seconds
        for first in range(0, 19200, 1024):
            frame = av.AudioFrame.from_ndarray(tone[None, first : first + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, first, Fraction(1, 16000)
            output.mux(heard.encode(frame))
        output.mux(heard.encode(None))
    part = VideoFile(tmp_path / "part.mp4", 5, sound=loud, cut=True)
    for frame in Frames(loud, 4, 9, 2):
        part.write(frame.pixels, frame.seconds)
    part.close()
    assert [round(frame.seconds or 0, 2) for frame in Frames(tmp_path / "part.mp4")] == [0, 0.2, 0.4]
    with av.open(str(tmp_path / "part.mp4")) as container:
        kept = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert 0.55 < len(kept) / 16000 < 0.75
    assert np.abs(kept[2048:4096]).mean() > 0.2  # and not what was silent
