"""The report's page: whole, closed in itself, with names that cannot break it; its numbers those of the tallies."""

import html
import html.parser
import json
import os
import pickle
import re

import numpy as np
import pytest
from conftest import NAMES, write_files

from mask2former.dashboard.collector import Collector
from mask2former.dashboard.confusion import confusions, matrix
from mask2former.dashboard.gallery import Example, Gallery, Packed, shrunk
from mask2former.dashboard.pages import as_data
from mask2former.visualization import Region

VOID = {"meta", "input", "link", "img", "br", "rect", "path", "circle"}
PNG = "pan_seg_file_name"
TASKS = [("panoptic", "instance", "semantic"), ("panoptic",), ("instance",), ("semantic",)]


class Page(html.parser.HTMLParser):
    """Tags, attributes and cells of a page; elements have to be closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.cells, self.texts = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)


def all_of(page, name):
    return [attributes for tag, attributes in page.tags if tag == name]


@pytest.mark.parametrize("tasks", TASKS)
def test_page_is_whole_and_asks_for_nothing(report, tasks):
    text = report(*tasks).read_text()
    page = Page(text)
    for tag, attributes in page.tags:
        for key in ("src", "href", "action", "data", "poster", "srcset"):
            target = attributes.get(key, "")
            assert target is None or target == "" or target.startswith(("#", "data:")), (tag, target)
    outside = text.replace("http://www.w3.org/2000/svg", "")  # a name, not an address
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttpRequest", outside)
    assert all(image["alt"] or image["src"] == "data:," for image in all_of(page, "img"))
    assert len(all_of(page, "caption")) == len(all_of(page, "table"))
    assert "null" not in page.texts


@pytest.mark.parametrize("tasks", TASKS)
def test_names_cannot_break_the_page(report, images, tasks):
    text = report(*tasks).read_text()
    page = Page(text)
    assert "fail()" in text
    assert "<script>fail()" not in text
    shown = set(page.texts)
    assert set(images[1].stuff_classes[:2]) <= shown
    assert "a <run>" in shown
    assert not all_of(page, "b") or all("fail" not in str(b) for b in all_of(page, "b"))


def test_cells_are_the_tallies_numbers(report, images, collect):
    text = report("panoptic", "semantic").read_text()
    _, metadata, _ = images
    findings = collect(["panoptic", "semantic"]).findings
    table = re.search(r'<table class="sortable".*?</table>', text, re.S)[0]
    rows = re.findall(r"<tr><th scope=\"row\".*?</tr>", table, re.S)
    assert len(rows) == len(metadata.stuff_classes)
    panoptic, semantic = findings.panoptic, findings.semantic
    shares = [*panoptic.quality().values()]
    counts = [panoptic.matched + panoptic.unmatched, panoptic.matched + panoptic.spurious]
    expected = [*shares, *counts, *semantic.quality().values(), semantic.confusion.sum(1)]
    for i, row in enumerate(rows):
        values = re.findall(r'data-value="([^"]*)"', row)
        assert len(values) == len(expected)
        for value, column in zip(values, expected, strict=True):
            assert (value == "") == bool(np.isnan(column[i]))
            assert value == "" or float(value) == pytest.approx(column[i], rel=1e-7)


def test_findings_of_processes_are_added(images, collect):
    records, _, outputs = images
    tasks = ["panoptic", "instance", "semantic"]
    whole = collect(tasks).findings
    parts = [collect(tasks, records[start::2], outputs[start::2]).findings for start in (0, 1)]
    both = Collector.together(pickle.loads(pickle.dumps(parts)))
    assert both.compared == whole.compared == dict.fromkeys(tasks, len(records))
    assert np.array_equal(both.panoptic.confusion, whole.panoptic.confusion)
    assert np.array_equal(both.instance.kinds, whole.instance.kinds)
    assert np.array_equal(both.semantic.confusion, whole.semantic.confusion)
    for name in ("best", "worst"):
        qualities = [[x.quality for x in getattr(f.gallery, name)()] for f in (both, whole)]
        assert qualities[0] == qualities[1]


def test_images_without_a_panoptic_annotation_are_left_out(images, collect, tmp_path):
    records, _, outputs = images
    tasks = ["panoptic", "semantic"]
    expected = collect(tasks, records[:1] + records[2:], outputs[:1] + outputs[2:]).findings
    write_files(tmp_path, [{k: v for k, v in r.items() if r is not records[1] or k != PNG} for r in records])
    found = collect(tasks).findings
    assert np.array_equal(found.panoptic.confusion, expected.panoptic.confusion)
    assert np.array_equal(found.panoptic.by_size, expected.panoptic.by_size)
    assert found.semantic.confusion.sum() > expected.semantic.confusion.sum()  # its semantic annotation counts
    assert found.compared == {"panoptic": 4, "semantic": 5}
    write_files(tmp_path, [{k: v for k, v in r.items() if k != PNG} for r in records])
    assert Collector.together([collect(tasks).findings]).panoptic is None


def test_gallery_keeps_the_extremes():
    rng = np.random.default_rng(0)
    qualities = rng.permutation(100) / 100
    gallery = Gallery(3)
    made = []

    def example(i):
        made.append(i)
        return Example(str(i), qualities[i], (1, 1), Packed([]), Packed([]))

    for i, quality in enumerate(qualities):
        gallery.offer(quality, lambda i=i: example(i))
    assert [x.quality for x in gallery.best()] == [0.99, 0.98, 0.97]
    assert [x.quality for x in gallery.worst()] == [0.0, 0.01, 0.02]
    assert len(made) < 60  # the others were not drawn up at all


def test_few_images_are_shown_once():
    gallery = Gallery(3)
    for i in range(4):
        gallery.offer(i / 10, lambda i=i: Example(str(i), i / 10, (1, 1), Packed([]), Packed([])))
    assert [x.file_name for x in (*gallery.best(), *gallery.worst())] == ["3", "2", "1", "0"]


@pytest.mark.parametrize("size", [(48, 64), (1080, 1920), (3000, 1)])
def test_shrinking_keeps_the_shape(size):
    rows, columns = shrunk(size, 420)
    assert max(len(rows), len(columns)) <= 420
    assert rows.max() < size[0]
    assert columns.max() < size[1]
    if max(size) <= 420:
        assert (len(rows), len(columns)) == size


def test_confusions_in_words():
    counts = np.array([[5, 3, 0, 1], [0, 9, 7, 0], [0, 0, 2, 0], [1, 1, 1, 0]])
    words = confusions(counts, ["a", "b", "c"])
    assert [(w.true, w.found, w.count, w.total) for w in words] == [("b", "c", 7, 16), ("a", "b", 3, 9)]


def test_a_large_matrix_shows_the_most_confused():
    counts = np.diag(np.arange(1, 101))
    counts[40, 60] = 50
    shown = matrix(counts, [str(i) for i in range(100)])
    assert shown.left_out == 76
    assert {"40", "60"} <= set(shown.names)
    i, j = shown.names.index("40"), shown.names.index("60")
    assert shown.shares[i, j] == pytest.approx(50 / 91)


def test_data_cannot_end_its_element():
    text = as_data({"</script>": [float("nan"), np.float32(0.1), np.int64(3), "&\u2028"]})
    assert "<" not in text
    assert "&" not in text
    assert "null,0.1,3" in text


def test_regions_are_kept_small() -> None:
    masks = np.random.default_rng(0).random((3, 30, 41)) < 0.5
    regions = [Region(mask, f"cell {i}", np.array([i, 0, 9], np.uint8), True, i / 3) for i, mask in enumerate(masks)]
    packed = Packed(regions)
    assert packed.nbytes <= masks.nbytes / 8 + len(masks)
    for before, after in zip(regions, packed.regions(), strict=True):
        assert after.mask.dtype == bool and np.array_equal(after.mask, before.mask)
        assert (after.name, after.isthing, after.score) == (before.name, before.isthing, before.score)
        assert np.array_equal(after.colour, before.colour)


def test_objects_are_kept_as_they_are(images, collect):
    records, _, outputs = images
    (example,) = collect(["instance"], records[:1], outputs[:1]).findings.gallery.best()
    instances = outputs[0]["instances"]
    truth, found = example.truth.regions(), example.found.regions()
    assert np.array_equal([region.mask for region in found], instances.pred_masks.numpy() > 0)
    assert [region.score for region in found] == instances.scores.tolist()
    assert {region.score for region in truth} == {None}
    assert np.array_equal([region.mask for region in truth], instances.pred_masks.numpy() > 0)  # image 0 is not moved


@pytest.mark.parametrize("task", ["panoptic", "semantic"])
def test_labels_are_drawn_as_they_are(images, collect, task):
    records, _, outputs = images
    (example,) = collect([task], records[1:2], outputs[1:2]).findings.gallery.best()
    ids, segments = outputs[1]["panoptic_seg"]
    truth, found = example.truth.regions(), example.found.regions()
    assert {region.name for region in (*truth, *found)} <= set(NAMES)
    if task == "panoptic":
        assert len(found) == len(segments)
        for region, segment in zip(found, segments, strict=True):
            assert np.array_equal(region.mask, ids.numpy() == segment["id"])
            assert (region.name, region.isthing) == (NAMES[segment["category_id"]], segment["category_id"] < 2)
    else:
        labels = outputs[1]["sem_seg"].numpy().argmax(0)
        for region in found:
            assert np.array_equal(region.mask[3:], labels[3:] == NAMES.index(region.name))
            assert not region.mask[:3].any()  # ignored in the ground truth


def test_the_page_says_what_it_lacks(report):
    assert (
        "This page has only the scores of the dreams results: nobody &lt;looks&gt;." in report("semantic").read_text()
    )
    page = Page(report().read_text())
    assert "a <run>" in page.texts and "Class by class" not in page.texts


def test_an_image_that_has_gone_costs_only_itself(report, images, caplog):
    records, _, _ = images
    gone = records[0]["file_name"]  # whose result is the best
    os.unlink(gone)
    text = report("panoptic").read_text()
    page = Page(text)
    assert "Some images are not shown" in text and html.escape(gone) in text and gone in caplog.text
    captions = {one["title"] for one in all_of(page, "span") if (one.get("title") or "").endswith(".png")}
    assert len(captions) == 3 and os.path.basename(gone) not in captions
    album = json.loads(re.search(r'id="album-data">(.*?)</script>', text)[1])
    assert len(album["images"]) == len(album["tasks"]["panoptic"]["entries"]) == len(records) - 1


def test_names_that_are_no_utf8_have_a_page(report, images):
    records, _, _ = images
    old = os.fsencode(records[0]["file_name"])
    new = os.path.join(os.path.dirname(old), b"gr\xfcn.png")  # Latin-1, as of an old archive
    os.rename(old, new)
    records[0]["file_name"] = os.fsdecode(new)
    assert "gr?n.png" in report("panoptic").read_text(encoding="utf-8")
