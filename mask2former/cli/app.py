"""Serve a web page on this machine that draws what a model finds: ``mask2former app``."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from mask2former.cli.app_errors import errors_on_page
from mask2former.config import ConfigError
from mask2former.data import data_root
from mask2former.predictor import Predictor, Result
from mask2former.predictor.default_model import DEFAULT_MODEL, QUICKSTART, open_default
from mask2former.predictor.film import draw_film
from mask2former.predictor.load_image import find_images
from mask2former.predictor.video import Frames
from mask2former.predictor.writer import ResultWriter
from mask2former.visualization import INSTANCE_THRESHOLD, MODES

SHOWN_EXAMPLES = 5
WORDS = """# Mask2Former
One network for every kind of segmentation. Drop an image or a film here: it does not leave {place}."""
GRADIO_FOLDER = "GRADIO_TEMP_DIR"  # variable of the environment
LOCAL = ("127.0.0.1", "localhost", "::1")
MOST_UPLOADED = "200mb"  # in one file, where others than this machine's user can send some
MOST_SESSIONS = 100  # whose last result is kept
KEPT = 3600  # seconds for which files of the page are kept: what was sent, drawn and written
SWEEP = 300  # seconds between two looks for older ones

SAVE = """(file) => {
    const link = document.createElement("a");
    link.href = file.url;
    link.download = file.orig_name;
    link.click();
}"""
STYLE = """
footer {display: none !important}
#found table {width: 100%; border-collapse: collapse}
#found th, #found td {border: 0; border-bottom: 1px solid var(--border-color-primary); padding: 4px 8px}
#found th {color: var(--body-text-color-subdued); font-weight: 500}
"""


def run(args: argparse.Namespace) -> int:
    """Run the command of the parsed words. Return its exit status."""
    place = os.environ.get(GRADIO_FOLDER)
    try:
        if place:
            os.makedirs(place, exist_ok=True)
        private = tempfile.TemporaryDirectory(prefix="mask2former-", dir=place or None)
    except OSError as error:
        sys.exit(f"error: the page needs a folder for its files: {error}. Set {GRADIO_FOLDER} to one.")
    with private as folder:
        os.environ[GRADIO_FOLDER] = folder  # gradio's own is one for all users, and outlives the page
        try:
            return _serve(args, Path(folder))
        finally:
            if place is None:
                del os.environ[GRADIO_FOLDER]
            else:
                os.environ[GRADIO_FOLDER] = place


def _serve(args: argparse.Namespace, folder: Path) -> int:
    try:
        import gradio
    except ImportError:
        sys.exit("error: the page needs gradio, which is not installed: pip install 'mask2former[app]'")
    try:
        arguments = {"opts": args.opts, "allow_unsafe_config": args.allow_unsafe_config}
        predictor, note = (Predictor(args.model, **arguments), None) if args.model else open_default(**arguments)
        examples = [str(file) for file in find_images(args.examples)] if args.examples else _quickstart_images()
    except (ConfigError, ValueError, OSError) as error:
        sys.exit("error: " + " ".join(str(error).split()))
    if note:
        print(f"note: {note}", file=sys.stderr)
    name = args.model or (str(QUICKSTART) if note else DEFAULT_MODEL)
    local = args.host in LOCAL
    page = build_page(predictor, examples[:SHOWN_EXAMPLES], folder, page_words(predictor, name, note, local=local))
    _, url, _ = page.launch(
        server_name=args.host,
        server_port=args.port,
        inbrowser=args.open,
        theme=gradio.themes.Soft(primary_hue="teal", neutral_hue="slate", font=["system-ui", "sans-serif"]),
        css=STYLE,
        prevent_thread_lock=True,
        show_error=False,  # of gradio's own, which name the server's folders; ours are shown
        max_file_size=None if local else MOST_UPLOADED,
        state_session_capacity=MOST_SESSIONS,
        quiet=True,
    )
    if not local:
        print("note: whoever reaches this machine can use the page; it asks for no password.", file=sys.stderr)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends it as Ctrl-C does, and removes its files
    print(f"page: {url} (Ctrl-C ends it)", flush=True)
    page.block_thread()
    return 0


def page_words(predictor: Predictor, name: str, note: str | None = None, *, local: bool = True) -> str:
    """Return the Markdown at the top of the page: what it does, which model it shows, and a note.

    Args:
        predictor: predictor of the model.
        name: name of the model, folder or file.
        note: text to show below.
        local: only this machine reaches the page; others are not told in which folder the model is.
    """
    if not local and Path(name).exists():
        name = Path(name).resolve().name
    model = name.replace("`", "'")
    facts = [f"Model: `{model}`", ", ".join(predictor.tasks), f"{len(predictor.names)} classes"]
    words = WORDS.format(place="this machine" if local else "the machine that serves this page")
    return "\n\n".join([words, "; ".join(facts), *([f"*Note: {note}*"] if note else [])])


def build_page(predictor: Predictor, examples: list[str], folder: Path, words: str) -> Any:
    """Build the page, a ``gradio.Blocks``.

    Args:
        predictor: predictor of the model to show.
        examples: image files to try.
        folder: where files offered for download are written: gradio's, which removes what is older than :data:`KEPT`.
        words: Markdown shown at the top.
    """
    import gradio as gr

    def require(file: str) -> None:
        # A visitor can name any path in the place of a file that was sent; gradio asks no questions about images.
        if not (Path(file).resolve().is_relative_to(folder.resolve()) and Path(file).is_file()):
            raise gr.Error(f"{Path(file).name} is no longer on the server. Choose it again.", print_exception=False)

    def predict(sent: dict[str, Any] | None) -> Result | None:
        if not sent or not sent.get("path"):
            return None
        require(sent["path"])
        with errors_on_page(sent["path"]):
            return predictor(sent["path"])

    def show(result: Result | None, task: str, mode: str, threshold: float, legend: bool) -> tuple[Any, str, Any]:
        if result is None:
            return None, "", gr.Button(interactive=False)
        with errors_on_page():
            chosen = result.at_threshold(threshold)
            return chosen.draw(task, mode, legend=legend), table(chosen, task), gr.Button(interactive=True)

    def write(result: Result | None, task: str, threshold: float) -> str:
        if result is None:
            raise gr.Error("Choose an image first.", print_exception=False)
        with errors_on_page():
            file = Path(tempfile.mkdtemp(dir=folder), f"{Path(result.file_name or 'image').stem}_{task}.json")
            file.write_text(json.dumps(result.at_threshold(threshold).to_coco(task)), encoding="utf-8")
            return str(file)

    def draw(file: str | None, task: str, mode: str) -> Iterator[tuple[Any, str, Any]]:
        if file is None:
            raise gr.Error("Choose a film first.", print_exception=False)
        require(file)
        with errors_on_page(file):
            for said, drawn, tracks in draw_upload(predictor, file, task, mode, folder):
                yield drawn, said, gr.File(tracks, visible=tracks is not None)

    look = {"title": "Mask2Former", "fill_width": True}
    with gr.Blocks(analytics_enabled=False, delete_cache=(SWEEP, KEPT), **look) as page:
        gr.Markdown(words)
        state = gr.State(None)
        with gr.Tab("Image"), gr.Row():
            with gr.Column(scale=2, min_width=300):
                image = gr.Image(
                    type="filepath",
                    image_mode=None,  # do not convert the file
                    label="Image",
                    sources=["upload", "webcam", "clipboard"],
                )
                task = gr.Radio(list(predictor.tasks), value=predictor.tasks[0], label="Task", elem_id="task")
                mode = gr.Radio(list(MODES), value="overlay", label="Drawing mode", elem_id="mode")
                threshold = gr.Slider(
                    0,
                    1,
                    value=round(getattr(predictor.model, "object_mask_threshold", INSTANCE_THRESHOLD), 2),
                    step=0.05,
                    label="Threshold",
                    info="Hide what scores lower. Semantic results have no scores and do not change.",
                    elem_id="threshold",
                )
                legend = gr.Checkbox(True, label="Legend", elem_id="legend")
                if examples:
                    gr.Examples(examples, image, label="Images to try")
            with gr.Column(scale=3, min_width=300):
                drawn = gr.Image(
                    label="Result",
                    interactive=False,
                    format="png",
                    buttons=["download", "fullscreen"],  # not gradio's third one, which uploads the image
                    elem_id="result",
                )
                ask = gr.Button("COCO json", size="sm", interactive=False, elem_id="json")
                written = gr.File(visible=False)
                found = gr.Markdown(elem_id="found")
        with gr.Tab("Film", elem_id="film"), gr.Row():
            with gr.Column(scale=2, min_width=300):
                film = gr.Video(label="Film", sources=["upload", "webcam"], elem_id="film-input")
                film_task = gr.Radio(list(predictor.tasks), value=predictor.tasks[0], label="Task", elem_id="film-task")
                modes = list(MODES)
                film_mode = gr.Radio(modes, value="overlay", label="Drawing mode", elem_id="film-mode")
                with gr.Row():
                    start = gr.Button("Draw the film", variant="primary", elem_id="film-start")
                    stop = gr.Button("Stop", elem_id="film-stop")
            with gr.Column(scale=3, min_width=300):
                drawn_film = gr.Video(label="Result", interactive=False, buttons=["download"], elem_id="film-result")
                said = gr.Markdown(elem_id="film-said")
                tracks = gr.File(label="Tracks, in the form of YouTube-VIS", visible=False, elem_id="film-tracks")

        controls = [state, task, mode, threshold, legend]
        results = [drawn, found, ask]
        # Not preprocessed by gradio, whose errors name its folder: the predictor reads the file and says what is wrong.
        image.change(predict, image, state, preprocess=False).then(show, controls, results)
        for control in (task, mode, legend):
            control.change(show, controls, results)
        threshold.release(show, controls, results)
        ask.click(write, [state, task, threshold], written).then(None, written, None, js=SAVE)
        drawing = start.click(draw, [film, film_task, film_mode], [drawn_film, said, tracks])
        stop.click(None, cancels=drawing)
    return page


def draw_upload(
    predictor: Predictor, file: str, task: str, mode: str, folder: Path
) -> Iterator[tuple[str, str | None, str | None]]:
    """Draw a film, following its objects, and say every second how far it is.

    Args:
        predictor: finds the objects.
        file: the film.
        task: one of the predictor's.
        mode: of drawing.
        folder: where a folder with the drawn film and the tracks is made.

    Returns:
        An iterator of (what to say, drawn film, file of the tracks); the files are None until the film has ended, and
        the tracks of semantic results always.

    Raises:
        OSError: the film cannot be decoded.
    """
    frames = Frames(file)
    output = Path(tempfile.mkdtemp(dir=folder))
    tracks = output / f"{frames.name}_tracks.json" if task != "semantic" else None
    writer = ResultWriter(output, [task], mode)
    told, count, done = 0.0, 0, False
    try:
        with closing(draw_film(predictor, writer, frames, tracks=tracks, track=tracks is not None)) as drawing:
            for _ in drawing:
                count += 1
                if time.monotonic() - told > 1:
                    told = time.monotonic()
                    yield f"frame {count}" + (f" of {len(frames)}" if len(frames) else ""), None, None
        writer.close()
        done = True
    finally:
        if not done:  # an error, or the visitor stopped it
            shutil.rmtree(output, ignore_errors=True)  # what is left goes with the page's folder
    number = 0 if tracks is None else len(json.loads(tracks.read_text(encoding="utf-8"))["annotations"])
    words = f"{count} frames" + (f", {number} tracks" if tracks else "")
    yield words, str(writer.drawn[0]), None if tracks is None else str(tracks)


def table(result: Result, task: str) -> str:
    """Return a Markdown table of what was found: a line for each class, with the share of the image that it covers."""
    rows: dict[str, list[Any]] = {}
    for region in result.regions(task):
        row = rows.setdefault(region.name, [region.name, 0, np.zeros_like(region.mask)])
        row[1] += 1
        row[2] = row[2] | region.mask
    if not rows:
        return "Nothing found at this threshold."
    lines = sorted(rows.values(), key=lambda row: -row[2].sum())
    return tabulate(
        [(name, count, f"{100 * mask.mean():.1f} %") for name, count, mask in lines],
        ["class", "regions", "share of the image"],
        tablefmt="github",
        colalign=("left", "right", "right"),
    )


def _quickstart_images() -> list[str]:
    folder = Path(data_root(), "quickstart", "images", "val")
    return [str(file) for file in find_images(folder)] if folder.is_dir() else []
