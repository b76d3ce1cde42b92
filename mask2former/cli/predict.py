"""Draw a model's results over images and videos: ``mask2former predict``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from mask2former.cli.predict_set import predict_large_set
from mask2former.config import ConfigError
from mask2former.predictor import Predictor
from mask2former.predictor.default_model import open_default
from mask2former.predictor.film import draw_film
from mask2former.predictor.load_image import URL_SCHEMES, LoadedImage, find_images, load_image, load_mask
from mask2former.predictor.result import LABELS
from mask2former.predictor.video import SUFFIXES as VIDEO_SUFFIXES
from mask2former.predictor.video import Frames
from mask2former.predictor.windows import Windows
from mask2former.predictor.writer import ResultWriter

IMAGE_FILES, VIDEO_FILE = (".png", ".jpg", ".jpeg"), ".mp4"  # what --output may name


def run(args: argparse.Namespace) -> int:
    """Run the command of the parsed words. Return its exit status."""
    if args.window and args.no_track:
        _stop("--window follows the objects of films: leave it out, or else --no-track.")
    if args.engine:
        if args.window:
            _stop("--window cuts films, and --engine runs over images: leave one out.")
        return predict_large_set(args)
    if args.mode == LABELS and (args.style == "side-by-side" or args.legend):
        _stop("--mode labels writes label numbers: leave out --style side-by-side and --legend.")
    images, videos, failures = _sort_inputs(args)
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    if not images and not videos:
        _stop("there is no image to draw on.")
    if args.mode == LABELS and videos:
        _stop("--mode labels writes label numbers, which video compression changes; give the frames as images.")
    if args.mask and (videos or len(images) != 1):
        _stop(f"--mask belongs to one image, but there are {len(images) + len(videos)} inputs or a video.")
    if args.tracks and (len(videos) != 1 or images):
        _stop(f"--tracks are those of one film, but there are {len(videos)} films and {len(images)} images.")
    if args.window and not videos:
        _stop("--window cuts films, and there is none among the inputs that can be read.")
    if args.mask and (args.tile or args.tile_if_needed):
        _stop("--mask and tiles do not go together: leave out --tile and --tile-if-needed.")
    folder, single = _output(Path(args.output), images, videos)
    try:
        predictor = _predictor(args)
        tasks = predictor.tasks[:1] if single or videos else predictor.tasks
        drawing = {"legend": args.legend, "beside": args.style == "side-by-side"}
        writer = ResultWriter(folder, tasks, args.mode, drawing, args.save_masks, args.save_json, single)
        count, seconds = _draw(predictor, writer, args, images, videos, failures)
        writer.close()
    except (ConfigError, ValueError, OSError) as error:
        _stop(str(error))
    what = "frames and images" if videos else "images" if count != 1 else "image"
    print(f"{count} {what} ({', '.join(tasks)}) in {seconds:.1f} s: {count / max(seconds, 1e-6):.2f} a second")
    for line in writer.summary():
        print(line)
    if args.tracks and count:
        print(f"tracks: {args.tracks}")
    if failures:
        _stop(f"{len(failures)} of the inputs could not be drawn; see above.")
    return 0


def _draw(
    predictor: Predictor,
    writer: ResultWriter,
    args: argparse.Namespace,
    images: list[Path | str],
    videos: list[Path | int],
    failures: list[str],
) -> tuple[int, float]:
    """Predict and write; return (number of images and frames drawn, seconds). After Ctrl-C, finished files are kept."""

    def fail(error: Exception) -> None:
        failures.append(str(error))
        tqdm.write(f"error: {error}", file=sys.stderr)

    def readable() -> Iterator[LoadedImage]:
        for source in images:
            try:
                image = load_image(source)
                mask = load_mask(args.mask, image.pixels.shape[:2]) if args.mask else None
                yield replace(image, mask=mask)
            except (OSError, ValueError) as error:
                fail(error)
                bar.update()

    count, started = 0, time.perf_counter()
    try:
        with tqdm(total=len(images), desc="drawing", unit="image", disable=None if images else True) as bar:
            for result in predictor.stream(readable()):
                writer.add(result)
                bar.update()
                count += 1
        for video in videos:
            try:
                stop = None if args.frames is None else args.start + args.frames * args.every
                frames = Frames(video, args.start, stop, args.every)
                tracks = Path(args.tracks) if args.tracks else None
                drawn = draw_film(
                    predictor,
                    writer,
                    frames,
                    track=not args.no_track,
                    tracks=tracks,
                    sound=args.keep_sound,
                    windows=args.window and Windows(args.window, max(1, args.window // 3)),
                )
                for _ in tqdm(drawn, frames.name, len(frames) or args.frames, unit="frame", disable=None):
                    count += 1
            except (OSError, ValueError) as error:
                fail(error)
    except KeyboardInterrupt:
        print("stopped; what was drawn so far is kept", file=sys.stderr)
    return count, time.perf_counter() - started


def _predictor(args: argparse.Namespace) -> Predictor:
    arguments = {
        "threshold": args.confidence_threshold,
        "tasks": None if args.task is None else [args.task],
        "batch_size": args.batch_size,
        "tile": args.tile,
        "tile_if_needed": args.tile_if_needed,
        "overlap": args.overlap,
        "backend": args.backend,
        "program": args.program,
        "opts": args.opts,
        "allow_unsafe_config": args.allow_unsafe_config,
    }
    if args.config_file or args.model:
        return Predictor(args.config_file or args.model, **arguments)
    predictor, note = open_default(**arguments)
    if note:
        print(f"note: {note}", file=sys.stderr)
    return predictor


def _sort_inputs(args: argparse.Namespace) -> tuple[list[Path | str], list[Path | int], list[str]]:
    """Return images, videos and cameras, and error texts for inputs that name none."""
    images: list[Path | str] = []
    videos: list[Path | int] = []
    failures: list[str] = []
    for text in (*args.input, *([args.video_input] if args.video_input else ())):
        try:
            found = [text] if text.startswith(URL_SCHEMES) else find_images(text)
        except FileNotFoundError as error:
            failures.append(str(error))
            continue
        for source in found:
            if isinstance(source, Path) and (text == args.video_input or source.suffix.lower() in VIDEO_SUFFIXES):
                videos.append(source)
            else:
                images.append(source)
    if args.webcam is not None:
        videos.append(args.webcam)
    return list(dict.fromkeys(images)), list(dict.fromkeys(videos)), failures


def _output(output: Path, images: list[Path | str], videos: list[Path | int]) -> tuple[Path, Path | None]:
    """Return the folder, and the only file to write if --output names one, as it may in the published demo."""
    suffix = output.suffix.lower()
    if suffix in (*IMAGE_FILES, VIDEO_FILE) and not output.is_dir():
        if (inputs := len(images) + len(videos)) > 1:
            _stop(f"--output {output} is one file, but there are {inputs} inputs; name a folder.")
        if videos and suffix != VIDEO_FILE:
            _stop(f"--output {output} is an image, but the input is a video; name {output.with_suffix(VIDEO_FILE)}.")
        if images and suffix == VIDEO_FILE:
            _stop(f"--output {output} is a video, but the input is an image; name {output.with_suffix('.png')}.")
        return output.parent, output
    if output.exists() and not output.is_dir():
        _stop(f"--output {output} is a file; name a folder.")
    return output, None


def _stop(message: str) -> NoReturn:
    sys.exit("error: " + " ".join(message.split()))
