"""The pages in a real browser: no script errors, tables sort, images load, the switch of light and dark works."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from mask2former.dashboard.compare import write_comparison
from mask2former.dashboard.curves import write_curves
from mask2former.dashboard.runs import Run

spec = importlib.util.spec_from_file_location("dashboard_browser", Path(__file__).with_name("browser.py"))
browser_module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(browser_module)

pytestmark = pytest.mark.skipif(bool(browser_module.missing()), reason=f"needs {browser_module.missing()}")

COLUMN = """
    return [...document.querySelectorAll('#class-table tbody tr')].map(row => row.cells[{}])
        .map(cell => cell.dataset.value ?? cell.textContent)"""
CLICK = "document.querySelector('#class-table button[data-column=\"{}\"]').click()"

KEY = "document.getElementById('{}').dispatchEvent(new KeyboardEvent('keydown', {{key: '{}', bubbles: true}}))"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = browser_module.Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def test_report(browser, report):
    browser.open(report("panoptic", "instance", "semantic"))
    assert browser.wait("return document.querySelectorAll('.chart svg path').length") >= 2

    def column(number):
        return browser.run(COLUMN.format(number))

    before = [float(x) for x in column(1)]
    browser.run(CLICK.format(1))
    assert [float(x) for x in column(1)] == sorted(before, reverse=True)
    browser.run(CLICK.format(1))
    assert [float(x) for x in column(1)] == sorted(before)
    assert browser.run("return document.querySelector('th[aria-sort]').ariaSort") == "ascending"
    browser.run(CLICK.format(0))
    assert len(set(column(0))) == 4

    browser.run("for (const image of document.images) image.loading = 'eager'")
    browser.wait("return [...document.querySelectorAll('.shot img')].every(i => i.complete && i.naturalWidth > 0)")
    assert browser.run("return document.querySelectorAll('.shot img[role=button]').length") == 12
    browser.run("document.querySelector('.shot img[role=button]').click()")
    assert browser.run("return document.getElementById('enlarged').open")
    enlarged = "return document.querySelector('#enlarged img').alt"
    first = browser.run(enlarged)
    browser.run(KEY.format("enlarged", "ArrowRight"))
    assert browser.run(enlarged) != first
    browser.run(KEY.format("enlarged", "ArrowLeft"))
    assert browser.run(enlarged) == first
    browser.run("document.getElementById('enlarged').click()")

    def paper():
        return browser.run("return getComputedStyle(document.body).backgroundColor")

    first = paper()
    browser.run("document.getElementById('theme').click()")
    assert paper() != first
    browser.run("document.getElementById('theme').click()")
    assert paper() == first
    assert browser.complaints() == []


def test_errors_show_their_images(browser, report):
    browser.open(report("panoptic", "semantic"))
    album = json.loads(browser.run("return document.getElementById('album-data').textContent"))

    def names():
        return browser.run(
            "return [...document.querySelectorAll('#album-shots figcaption span[title]')].map(x => x.title)"
        )

    def choose(**values):
        for name, value in values.items():
            browser.run(f"filters.elements['{name}'].value = '{value}'")
        browser.run("filters.dispatchEvent(new Event('input'))")

    entries = album["tasks"]["panoptic"]["entries"]
    by_quality = [entry["n"] for entry in sorted(entries, key=lambda entry: entry["q"])]
    assert names() == by_quality
    for place in range(browser.run("return document.querySelectorAll('button.find').length")):
        button = f"document.querySelectorAll('button.find')[{place}]"
        wanted = browser.run(f"return {{...{button}.dataset}}")
        browser.run(f"{button}.click()")
        columns = {i: int(wanted[key]) for i, key in enumerate(("kind", "true", "found")) if key in wanted}
        expected = {
            entry["n"]
            for entry in album["tasks"][wanted["task"]]["entries"]
            if any(all(mark[i] == value for i, value in columns.items()) for mark in entry["m"])
        }
        assert set(names()) == expected
        assert expected
    browser.run("filters.reset()")
    browser.wait(f"return document.querySelectorAll('#album-shots figure').length === {len(entries)}")
    choose(order="best")
    assert names() == by_quality[::-1]
    middle = sorted(entry["q"] for entry in entries)[2]
    choose(low=100 * middle - 0.001)
    assert names() == by_quality[::-1][: sum(entry["q"] >= middle for entry in entries)]
    choose(low=0, order="name", **{"class": 3})
    assert names() == sorted(entry["n"] for entry in entries if any(3 in mark[1:3] for mark in entry["m"]))

    browser.run("filters.reset()")
    browser.wait(f"return document.querySelectorAll('#album-shots figure').length === {len(entries)}")
    browser.run("document.querySelector('#album-shots button').click()")
    shown = []
    for _ in range(len(entries)):
        shown.append(browser.run("return document.getElementById('viewer-name').textContent").split(",")[0])
        browser.run(KEY.format("viewer", "ArrowRight"))
    assert shown == by_quality
    boxes = browser.run("return document.querySelectorAll('#viewer-row i').length")
    errors = [mark for mark in next(e for e in entries if e["n"] == by_quality[-1])["m"] if mark[0] != album["correct"]]
    assert boxes == len(errors)
    assert len(browser.run("return [...document.querySelectorAll('#viewer-row .regions')].map(x => x.alt)")) == 2
    browser.run("document.getElementById('viewer-close').click()")
    assert not browser.run("return viewer.open")
    assert browser.complaints() == []


def test_instances_without_a_box_keep_their_scores(browser, report):
    """Tell scores by the task: an instance whose mask has no pixel left in the small copy has no box either."""
    file = report("instance", "semantic")
    start, data, end = re.split(
        r'(?<=id="album-data">)(.*?)(?=</script>)', file.read_text(), maxsplit=1, flags=re.DOTALL
    )
    album = json.loads(data)
    marks = [mark for entry in album["tasks"]["instance"]["entries"] for mark in entry["m"]]
    for mark in marks:
        mark[4] = None
    changed = file.with_name("without_boxes.html")
    changed.write_text(start + json.dumps(album).replace("<", "\\u003c") + end)
    browser.open(changed)
    assert not browser.run("return filters.elements.score.closest('label').hidden")
    browser.run("filters.elements.score.value = '80'; filters.dispatchEvent(new Event('input'))")
    confident = sum(mark[3] is not None and mark[3] >= 0.8 for mark in marks)
    assert 0 < confident < len(marks)
    assert f"with {confident} such segment" in browser.run("return document.getElementById('album-count').textContent")
    words = "return chosen.flatMap((one) => one.marks).map(wordsOf)"
    assert not any("of the pixels" in text for text in browser.run(words))
    assert any("correct, " in text for text in browser.run(words))
    browser.run("filters.elements.task.value = 'semantic'; filters.elements.score.value = '0'")
    browser.run("filters.elements.task.dispatchEvent(new Event('input', {bubbles: true}))")
    assert browser.run("return filters.elements.score.closest('label').hidden")
    texts = browser.run(words)
    assert texts and all("of the pixels" in text for text in texts)
    assert browser.complaints() == []


def test_the_page_says_why_no_image_is_found(browser, report):
    file = report("semantic")
    start, data, end = re.split(
        r'(?<=id="album-data">)(.*?)(?=</script>)', file.read_text(), maxsplit=1, flags=re.DOTALL
    )
    album = json.loads(data)
    part = album["tasks"]["semantic"]

    def text_without_images(**changes):
        changed = file.with_name("changed.html")
        changed.write_text(start + json.dumps(album | changes).replace("<", "\\u003c") + end)
        browser.open(changed)
        browser.run("filters.elements.true.value = '0'; filters.elements.low.value = '100'")
        browser.run("filters.elements.high.value = '99'; filters.dispatchEvent(new Event('input'))")
        return browser.run("return document.getElementById('album-count').textContent")

    number = len(part["entries"])
    assert text_without_images() == f"0 of {number} images"
    few = text_without_images(pairs=min(len(entry["m"]) for entry in part["entries"]))
    assert "most frequent pairs of classes" in few and "not on this page" not in few
    part["seen"] = 1234
    sampled = text_without_images()
    assert f"{1234 - number} of the 1234 images evaluated are not on this page" in sampled and "pairs" not in sampled
    assert browser.complaints() == []


def test_nothing_is_wider_than_a_phone(browser, report):
    browser.open(report("panoptic", "semantic"))
    browser.run("document.body.style.width = '390px'")
    assert browser.run("return document.querySelector('main').scrollWidth") <= 390


def test_curves(browser, run_folder):
    folder = run_folder("run")
    run = Run(folder)
    browser.open(write_curves(folder / "curves.html", run.metrics, title="run", max_iter=run.max_iter, batch_size=4))
    charts = browser.run("return document.querySelectorAll('.chart svg').length")
    assert charts == 9
    point = """
        const svg = document.querySelector('.chart svg'), box = svg.getBoundingClientRect();
        svg.dispatchEvent(new PointerEvent('pointermove', {clientX: box.left + box.width / 2}));
        return document.querySelector('.chart .tip:not([hidden])')?.textContent"""
    told = browser.run(point)
    assert "iteration" in told
    assert "total loss" in told
    path = "return document.querySelector('#chart-loss path').getAttribute('d')"
    plain = browser.run(path)
    browser.run("document.getElementById('log').click()")
    assert browser.run(path) != plain
    hidden = "return document.querySelectorAll('#chart-parts path').length"
    assert browser.run(hidden) == 3
    browser.run("document.querySelector('#chart-parts .legend button').click()")
    assert browser.run(hidden) == 2
    browser.run("document.getElementById('log').click(); document.querySelector('#chart-parts .legend button').click()")
    assert browser.complaints() == []


def test_curves_load_again_and_keep_the_place(browser, run_folder):
    folder = run_folder("live")
    facts = {"title": "live", "max_iter": 9999, "refresh": 1.0}
    browser.open(write_curves(folder / "curves.html", Run(folder).metrics, **facts))
    assert browser.run("return document.querySelector('h1').textContent") == "live"
    browser.run("window.scrollTo(0, 500)")
    metrics = folder / "metrics.json"
    metrics.write_text(metrics.read_text() + json.dumps({"iteration": 5000, "total_loss": 1.0}) + "\n")
    write_curves(folder / "curves.html", Run(folder).metrics, **facts)
    browser.wait("return document.querySelector('.lead').textContent.includes('5\u202f001')")
    # The new page may be a line longer or shorter above the place.
    assert abs(browser.wait("return window.scrollY") - 500) < 40
    assert browser.complaints() == []


def test_comparison_of_runs(browser, run_folder, tmp_path):
    runs = [Run(run_folder("a", score=40)), Run(run_folder("b", score=60))]
    browser.open(write_comparison(tmp_path / "compare.html", runs))
    assert browser.wait("return document.querySelectorAll('.chart svg').length") >= 5
    assert "60.00" in browser.run("return document.querySelector('td.best').textContent")
    assert browser.complaints() == []
