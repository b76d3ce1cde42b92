"""Films in overlapping windows: what joins them, against films whose truth is known and one pass over all frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mask2former.modeling.postprocess import ClipSettings, PostProcessing, ResizedMasks
from mask2former.predictor.load_image import LoadedImage
from mask2former.predictor.windows import Windows, in_windows
from mask2former.structures import DenseMasks
from mask2former.tracking import WindowLinker
from mask2former.tracking.clips import link_clip

H, W, OBJECTS = 12, 40, 4
SETTINGS = PostProcessing(semantic_on=False, instance_on=True, things=frozenset({0, 1}))


def truth(name: int, t: int) -> Tensor:
    """A square of object ``name`` in frame t, which moves to and fro."""
    mask = torch.zeros(H, W, dtype=torch.bool)
    left = 9 * name + (t % 4)
    mask[2:8, left : left + 6] = True
    return mask


class ClipModel:
    """Finds the objects of the frames that it gets; which query shows which is another in each clip."""

    post_processing = SETTINGS

    def __init__(self, seed: int, seen: Any = lambda name, t: True) -> None:
        self._random, self._seen, self.lengths = np.random.default_rng(seed), seen, []

    def predict(self, clips: list[dict[str, Any]]) -> list[tuple[Tensor, ResizedMasks]]:
        frames = [int(image[0, 0, 0]) for image in clips[0]["image"]]
        self.lengths.append(len(frames))
        order = self._random.permutation(OBJECTS + 1)  # the last shows nothing
        shown = [name < OBJECTS and any(self._seen(name, t) for t in frames) for name in order]
        logits = torch.tensor(
            [
                [4.0 * (n % 2), 4.0 * (1 - n % 2), 0.0] if s else [-5.0, -5.0, 5.0]
                for n, s in zip(order, shown, strict=True)
            ]
        )
        maps = torch.full((1, len(order), len(frames), H, W), -8.0)
        for query, name in enumerate(order):
            for place, t in enumerate(frames):
                if name < OBJECTS and self._seen(name, t):
                    maps[0, query, place][truth(name, t)] = 8.0
        size = tuple(clips[0]["image"][0].shape[1:])
        return [(logits, ResizedMasks(DenseMasks(maps), 0, size, size, None, t)) for t in range(len(frames))]


def film(length: int, size: tuple[int, int] = (H, W)) -> list[tuple[LoadedImage, dict[str, Any]]]:
    frames = [torch.full((3, *size), t) for t in range(length)]
    return [
        (
            LoadedImage(np.zeros((*size, 3), np.uint8), seconds=float(t)),
            {"image": x, "height": size[0], "width": size[1]},
        )
        for t, x in enumerate(frames)
    ]


def followed(model: Any, frames: Any, windows: Windows) -> list[dict[int, Tensor]]:
    """The mask of each track in each frame."""
    result = []
    for place, (image, outputs) in enumerate(in_windows(model, frames, windows, 0.5)):
        assert image.seconds == frames[place][0].seconds
        instances = outputs("instance", None)["instances"]
        sure = instances[instances.scores > 0.5]
        result.append(dict(zip(sure.track_ids.tolist(), sure.pred_masks > 0, strict=True)))
    return result


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 23), st.integers(2, 7), st.integers(1, 6), st.integers(0, 99))
def test_windows_give_what_one_pass_gives(length, size, shared, seed):
    shared = min(shared, size - 1)
    model = ClipModel(seed)
    pieces = followed(model, film(length), Windows(size, shared))
    whole = followed(ClipModel(seed + 1), film(length), Windows(length + 1, 1))
    assert len(pieces) == len(whole) == length and max(model.lengths) <= size
    name_of = {track: next(n for n in range(OBJECTS) if torch.equal(m, truth(n, 0))) for track, m in whole[0].items()}
    number_of: dict[int, int] = {}
    for t, (one, other) in enumerate(zip(pieces, whole, strict=True)):
        assert len(one) == len(other) == OBJECTS
        for track, mask in other.items():
            assert torch.equal(mask, truth(name_of[track], t))
            (same,) = [number for number, found in one.items() if torch.equal(found, mask)]
            assert number_of.setdefault(track, same) == same
    assert sorted(number_of.values()) == [1, 2, 3, 4]


@pytest.mark.parametrize(("length", "lengths"), [(1, [1]), (5, [5]), (6, [5, 3]), (8, [5, 5]), (15, [5, 5, 5, 5, 3])])
def test_tracks_of_a_clip_in_windows_are_its_objects(length, lengths):
    """Leave object 3 out at the end of the longest clip: its score has the square root of the share that shows it."""
    model = ClipModel(5, lambda name, t: name != 3 or t < 10)
    clip = {"image": [image["image"] for _, image in film(length)]}
    settings = ClipSettings(way="windows", frames=5, shared=2, tracks=8)
    result = link_clip(model.predict, clip, settings)
    assert model.lengths == lengths and len(result["pred_masks"]) == 8  # each object and its less likely class
    chances = torch.tensor([4.0, 0.0, 0.0]).softmax(0).tolist()[:1] * OBJECTS
    if length == 15:  # windows 0-4, 3-7, 6-10, 9-13, 12-14: its query of 9-13 is there in four frames without it
        chances[-1] *= (10 / 15) ** 0.5
    assert result["pred_scores"][:OBJECTS] == pytest.approx(chances)
    found = result["pred_masks"][:OBJECTS]
    for name in range(OBJECTS):
        own = torch.stack([truth(name, t) & (name != 3 or t < 10) for t in range(length)])
        (place,) = [place for place, mask in enumerate(found) if torch.equal(mask, own)]
        assert result["pred_labels"][place] == 1 - name % 2


def test_duplicates_in_a_window_take_no_part():
    """Give three queries: the second shows what the first does in two of three frames, the third something else."""
    maps = torch.full((1, 3, 3, H, W), -5.0)
    for t in range(3):
        maps[0, 0, t][truth(0, t)] = 5.0
        maps[0, 1, t][truth(0 if t < 2 else 1, t)] = 5.0
        maps[0, 2, t][truth(2, t)] = 5.0
    masks = [ResizedMasks(DenseMasks(maps), 0, (H, W), (H, W), None, t) for t in range(3)]
    logits = torch.tensor([[3.0, 0.0], [4.0, 0.0], [2.0, 0.0]])
    # The IoU over the window is 2 squares of the 4 that either shows.
    assert WindowLinker(duplicates=0.51).step(logits, masks, 0, 1).queries.tolist() == [0, 1, 2]
    assert WindowLinker(duplicates=0.49).step(logits, masks, 0, 1).queries.tolist() == [1, 2]


def test_objects_that_no_shared_frame_shows_are_new():
    def seen(name: int, t: int) -> bool:
        return name != 1 or t < 4 or t > 9  # missing in frames 4 to 9

    frames = followed(ClipModel(0, seen), film(16), Windows(6, 2))  # windows 0-5, 4-9, 8-13, 12-15
    number = [
        next((track for track, mask in frame.items() if torch.equal(mask, truth(1, t))), 0)
        for t, frame in enumerate(frames)
    ]
    assert len(set(number[:4])) == len(set(number[10:])) == 1 and number[0] not in (0, number[10])
    others = [
        next(track for track, mask in frame.items() if torch.equal(mask, truth(0, t))) for t, frame in enumerate(frames)
    ]
    assert len(set(others)) == 1


def test_another_size_begins_a_window():
    model = ClipModel(3)
    frames = film(5) + film(4, (2 * H, 2 * W))
    results = list(in_windows(model, frames, Windows(4, 1), 0.5))
    assert len(results) == 9 and model.lengths == [4, 2, 4]


@pytest.mark.parametrize(("length", "windows"), [(3, [3]), (5, [4, 2]), (4, [4])])
def test_frames_before_an_error_are_followed(length, windows):
    """A film that breaks off has the frames that came before, also those that waited for a window to be full."""

    def broken():
        yield from film(length)
        raise OSError("cannot be decoded")

    model, count = ClipModel(3), 0
    with pytest.raises(OSError, match="cannot be decoded"):
        for _ in in_windows(model, broken(), Windows(4, 1), 0.5):
            count += 1
    assert count == length and model.lengths == windows


def test_classes_are_averaged_over_frames():
    """Windows of 3 and then 2 new frames, of class logits a and b: (3 a + 2 b) / 5."""
    maps = torch.full((1, 1, 4, H, W), 5.0)
    masks = [ResizedMasks(DenseMasks(maps), 0, (H, W), (H, W), None, t) for t in range(4)]
    linker = WindowLinker()
    first = linker.step(torch.tensor([[2.0, 0.0, 0.0]]), masks[:3], 0, 2)
    second = linker.step(torch.tensor([[0.0, 4.0, 0.0]]), masks, 2, 2)
    assert first.tracks == second.tracks == [1]
    assert torch.allclose(second.class_logits, torch.tensor([[6 / 5, 8 / 5, 0.0]]))


def test_what_is_kept_does_not_grow_with_the_film():
    linker = WindowLinker()
    for number in range(60):
        maps = torch.full((1, 1, 3, H, W), -5.0)
        maps[0, 0, :, :, number % 20] = 5.0  # elsewhere, so that it is a new object
        masks = [ResizedMasks(DenseMasks(maps), 0, (H, W), (H, W), None, t) for t in range(3)]
        assert linker.step(torch.tensor([[4.0, 0.0]]), masks, min(number, 1), 1).tracks == [number + 1]
    assert len(linker._known) == 1


@pytest.mark.parametrize(("frames", "shared"), [(4, 0), (4, 4), (1, 1)])
def test_windows_that_do_not_overlap_are_refused(frames, shared):
    with pytest.raises(ValueError, match="has to be shared"):
        Windows(frames, shared)


@pytest.mark.parametrize("wrong", [{"start": 2}, {"least": 0}, {"duplicates": -0.1}])
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="WindowLinker"):
        WindowLinker(**wrong)
