"""The images to browse: each error and each confusion finds its images, with boxes where it is; the size is bounded."""

import base64
import io
import json
import pickle
import re
from collections import Counter

import numpy as np
import pytest
from conftest import IDS, NAMES, SIZE
from PIL import Image

from mask2former.dashboard import album_page
from mask2former.dashboard.album import EXAMPLES, Album, Entry
from mask2former.dashboard.album_page import album_context
from mask2former.dashboard.collector import Collector
from mask2former.dashboard.error_types import KINDS, Kind
from mask2former.dashboard.marks import MOST_PAIRS, Mark, pixel_marks
from mask2former.dashboard.overlay import overlay_png
from mask2former.visualization import Region

NOTHING = len(NAMES)
TASKS = ["panoptic", "instance", "semantic"]


def album_of(page):
    return json.loads(re.search(r'<script type="application/json" id="album-data">(.*?)</script>', page, re.S)[1])


def pixels(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGBA"))


def test_marks_add_up_to_the_matrices_and_kinds(report, collect):
    album = album_of(report(*TASKS).read_text())
    findings = collect(TASKS).findings
    for task in ("panoptic", "instance"):
        tally, entries = getattr(findings, task), album["tasks"][task]["entries"]
        assert len(entries) == album["tasks"][task]["seen"] == 5
        cells = Counter((true, found) for entry in entries for _, true, found, *_ in entry["m"])
        assert all(cells[i, j] == tally.confusion[i, j] for i in range(NOTHING + 1) for j in range(NOTHING + 1))
        kinds = Counter(kind for entry in entries for kind, *_ in entry["m"])
        for kind in set(Kind) - {Kind.IGNORED}:
            assert kinds[KINDS.index(kind)] == tally.kinds[KINDS.index(kind)].sum()


def test_pixels_are_shares_of_the_annotated_ones(report, images):
    records, _, outputs = images
    album = album_of(report("semantic").read_text())
    by_name = {entry["n"]: entry for entry in album["tasks"]["semantic"]["entries"]}
    for number, (record, output) in enumerate(zip(records, outputs, strict=True)):
        truth = np.asarray(Image.open(record["sem_seg_file_name"]))
        found, asked = output["sem_seg"].numpy().argmax(0), truth != 255
        expected = {
            (t, f): ((truth == t) & (found == f)).sum() / asked.sum() for t in range(NOTHING) for f in range(NOTHING)
        }
        marks = by_name[f"image{number}.png"]["m"]
        assert {(t, f): share for _, t, f, share, _ in marks} == {
            pair: pytest.approx(share, abs=1e-4) for pair, share in expected.items() if share
        }
        assert all((kind == KINDS.index(Kind.CORRECT)) == (t == f) for kind, t, f, *_ in marks)


def test_the_most_frequent_pairs_of_an_image_are_kept():
    counts = np.random.default_rng(0).permutation(30 * 30).reshape(30, 30) + 1
    marks = pixel_marks(counts, np.arange(30))
    assert len(marks) == MOST_PAIRS >= 200  # enough for an image of 10 classes taken for 20
    shares = sorted((counts / counts.sum()).ravel(), reverse=True)[:MOST_PAIRS]
    assert [mark.weight for mark in marks] == pytest.approx(shares)
    counts[20:] = counts[:, 10:] = 0
    assert {(mark.true, mark.found) for mark in pixel_marks(counts, np.arange(30))} == {
        (t, f) for t in range(20) for f in range(10)
    }


def test_boxes_are_those_of_the_segments(report, images):
    records, _, outputs = images
    album = album_of(report("panoptic").read_text())
    by_name = {entry["n"]: entry for entry in album["tasks"]["panoptic"]["entries"]}
    seen = 0
    for number, output in enumerate(outputs):
        ids, segments = output["panoptic_seg"]
        expected = Counter((s["category_id"], box_of(ids.numpy() == s["id"])) for s in segments)
        marks = by_name[f"image{number}.png"]["m"]
        assert Counter((found, tuple(box)) for _, _, found, _, box in marks if found != NOTHING) <= expected
        true_ids = np.asarray(Image.open(records[number]["pan_seg_file_name"])).astype(int)[..., 0]
        true = {(s["category_id"], box_of(true_ids == s["id"])) for s in records[number]["segments_info"]}
        missed = [(t, tuple(box)) for _, t, found, _, box in marks if found == NOTHING]
        assert set(missed) <= true
        seen += len(missed)
    assert seen


def box_of(mask):
    ys, xs = np.nonzero(mask)
    ends = (xs.min() / SIZE[1], ys.min() / SIZE[0], (xs.max() + 1) / SIZE[1], (ys.max() + 1) / SIZE[0])
    return tuple(round(1000 * end) for end in ends)


def test_overlays_cover_what_was_found(report, images):
    _, _, outputs = images
    album = album_of(report("instance").read_text())
    for entry in album["tasks"]["instance"]["entries"]:
        number = int(re.search(r"\d", entry["n"])[0])
        masks = outputs[number]["instances"].pred_masks.numpy() > 0
        assert np.array_equal(pixels(entry["f"])[..., 3] > 0, masks.any(0))
        photo = pixels(album["images"][entry["i"]])
        assert photo.shape[:2] == SIZE


def test_colours_of_an_overlay():
    mask = np.zeros((9, 9), bool)
    mask[2:7, 2:7] = True
    painted = pixels(
        "," + base64.b64encode(overlay_png([Region(mask, "a", np.array([9, 200, 50]), False)], (9, 9))).decode()
    )
    assert np.array_equal(np.unique(painted[mask][:, :3], axis=0), [[9, 200, 50]])
    assert painted[4, 4, 3] < painted[2, 2, 3] == 255
    many = [
        Region(np.arange(400).reshape(20, 20) == i, "b", np.array([i % 256, i // 256, 1]), False) for i in range(400)
    ]
    painted = pixels("," + base64.b64encode(overlay_png(many, (20, 20))).decode())
    assert (painted[..., 3] > 0).all()


def entry_of(number, marks):
    return Entry(str(number), 0.5, marks, b"", b"")


def offer(album, number, marks, made=None):
    def make():
        if made is not None:
            made.append(number)
        return entry_of(number, marks)

    album.offer(f"images/{number}.jpg", marks, make)


def numbers(album):
    return {int(entry.file_name) for entry in album.entries}


def test_a_large_album_keeps_examples_of_what_is_rare():
    usual, rare = [Mark(0, 1, 1), Mark(2, 1, 2)], [Mark(1, 3, 4)]
    album, made = Album(20), []
    for number in range(2000):
        offer(album, number, rare if number in (700, 1100, 1999) else usual, made)
    assert len(album.entries) == 20 and album.seen == 2000
    assert {700, 1100, 1999} <= numbers(album)
    assert len(made) < 400  # the others were not painted
    assert np.median(list(numbers(album))) > 200  # not the first ones alone


def test_rare_confusions_in_every_image_leave_room_for_later_ones():
    """Every image has pixel confusions of its own, as with 150 classes; a large one comes late."""
    album, made = Album(60), []
    late = Mark(-1, 5, 6, 0.3)
    for number in range(600):
        own = [Mark(-1, 1000 + number, i, 0.001 * (1 + (number * 7 + i) % 5)) for i in range(4)]
        offer(album, number, [*own, late] if number in (550, 560, 570) else own, made)
    kept = numbers(album)
    assert len(kept) == 60 and {550, 560, 570} <= kept
    # At most half are examples; the other half is a uniform sample, of which 3 of 30 are among the first 60.
    assert sum(number < 60 for number in kept) < 25
    assert sum(number >= 300 for number in kept) > 15
    assert len(made) < 400


def test_albums_of_processes_become_one():
    parts = [Album(6), Album(6)]
    for number in range(40):
        offer(parts[number % 2], number, [Mark(3, 0, NOTHING)] if number == 33 else [Mark(0, 0, 0)])
    parts[0].take(pickle.loads(pickle.dumps(parts[1])))
    assert parts[0].seen == 40 and len(parts[0].entries) == 6
    assert 33 in numbers(parts[0])


@pytest.mark.parametrize("processes", [2, 8])
def test_the_sample_does_not_depend_on_the_processes(processes):
    whole, backwards, parts = Album(40), Album(40), [Album(40) for _ in range(processes)]
    for number in range(400):
        offer(whole, number, [Mark(0, 1, 1)])
        offer(backwards, 399 - number, [Mark(0, 1, 1)])
        offer(parts[number * processes // 400], number, [Mark(0, 1, 1)])
    for part in parts[1:]:
        parts[0].take(part)
    assert numbers(whole) == numbers(backwards) == numbers(parts[0])
    assert parts[0].seen == 400 and len(parts[0].entries) == 40


def test_no_process_has_more_images_than_the_others():
    rng = np.random.default_rng(0)
    images = [[Mark(-1, int(t), int(f), 0.01) for t, f in rng.integers(0, 150, (10, 2))] for _ in range(800)]
    parts = [Album(160) for _ in range(8)]
    for number, marks in enumerate(images):
        offer(parts[number // 100], number, marks)
    for part in parts[1:]:
        parts[0].take(part)
    shares = np.bincount([number // 100 for number in numbers(parts[0])], minlength=8)
    assert shares.sum() == 160
    assert shares.max() < 40  # 20 each on average, with a standard deviation of 4


def test_rare_errors_never_exceed_the_limit():
    album = Album(EXAMPLES)
    for number in range(50):
        offer(album, number, [Mark(0, number, number + 1)])
    assert len(album.entries) == EXAMPLES


def test_the_page_says_when_it_is_full(collect, images, monkeypatch):
    findings = Collector.together([collect(["panoptic", "semantic"]).findings])
    whole = album_context(findings.albums, NAMES)
    assert [part["limited"] for part in whole["tasks"].values()] == [False, False]
    size = len(json.dumps(whole))
    monkeypatch.setattr(album_page, "ALBUM_BYTES", size // 2)
    half = album_context(findings.albums, NAMES)
    assert [part["limited"] for part in half["tasks"].values()] == [True, True]
    assert [part["seen"] for part in half["tasks"].values()] == [5, 5]
    assert all(0 < len(part["entries"]) < 5 for part in half["tasks"].values())
    assert len(json.dumps(half)) < 0.75 * size


def test_a_full_page_holds_no_image_that_it_does_not_show(collect, monkeypatch):
    findings = Collector.together([collect(["panoptic", "semantic"]).findings])
    whole = album_context(findings.albums, NAMES)
    sizes = set()
    for tenths in range(1, 10):
        monkeypatch.setattr(album_page, "ALBUM_BYTES", len(json.dumps(whole)) * tenths // 10)
        page = album_context(findings.albums, NAMES)
        shown = {entry["i"] for part in page["tasks"].values() for entry in part["entries"]}
        assert shown == set(range(len(page["images"])))
        sizes.add(len(shown))
    assert len(sizes) > 3


def test_errors_lead_to_their_images(report):
    page = report(*TASKS).read_text()
    album = album_of(page)
    buttons = [
        dict(re.findall(r'data-(\w+)="(\w+)"', text)) for text in re.findall(r'<button[^>]*class="find"[^>]*>', page)
    ]
    assert {button["task"] for button in buttons} == set(TASKS)
    assert any("kind" in button for button in buttons)
    for button in buttons:
        wanted = {place: int(button[key]) for place, key in enumerate(("kind", "true", "found")) if key in button}
        entries = album["tasks"][button["task"]]["entries"]
        assert any(all(mark[i] == value for i, value in wanted.items()) for entry in entries for mark in entry["m"])


def test_a_page_without_images_has_no_album(report):
    assert "album-data" not in report().read_text()
    assert len(IDS) == NOTHING
