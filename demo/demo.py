#!/usr/bin/env python3
"""Draw a model's results over images and videos. ``--help`` shows how."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from mask2former.config import ConfigError
from mask2former.config.command_line import add_trust
from mask2former.predictor import Predictor
from mask2former.predictor.default_model import DEFAULT_MODEL, open_default
from mask2former.predictor.film import draw_film
from mask2former.predictor.load_image import URL_SCHEMES, LoadedImage, find_images, load_image, load_mask
from mask2former.predictor.result import LABELS
from mask2former.predictor.video import SUFFIXES as VIDEO_SUFFIXES
from mask2former.predictor.video import Frames
from mask2former.predictor.windows import Windows
from mask2former.predictor.writer import ResultWriter
from mask2former.visualization import INSTANCE_THRESHOLD, MODES, RESULTS

EXAMPLES = f"""
examples:
  Draw everything that the default model ({DEFAULT_MODEL}, downloaded once) finds in an image:
    demo.py --input img.jpg
  A folder, a glob and a URL with a model that you trained:
    demo.py --model output/mine --input photos/ "more/*.jpg" https://example.org/a.jpg --output results
  Draw only instances with a score of at least 0.8, beside the image, with a legend:
    demo.py --input img.jpg --task instance --confidence-threshold 0.8 --style side-by-side --legend
  Write files for other programs: COCO json, a mask for each object, a map of labels:
    demo.py --input photos/ --save-json --save-masks --mode labels
  An aerial image at its own scale, in tiles:
    demo.py --input city.png --tile 1024 --task panoptic
  Only the marked pixels of an image; or, with a model that has a mask encoder, the object that a coarse mask means:
    demo.py --model output/mine --input img.jpg --mask mask.png
  A film, with its objects followed; their tracks as a table or json of YouTube-VIS; a camera, until Ctrl-C:
    demo.py --input film.mp4 --output drawn.mp4 --keep-sound
    demo.py --input film.mp4 --task instance --tracks tracks.csv --start 100 --every 2 --frames 50
    demo.py --webcam
  A configuration and weights, as in the published demo:
    demo.py --config-file FILE --input a.jpg b.jpg --output drawn --opts MODEL.WEIGHTS model_final.pkl
"""
IMAGE_FILES, VIDEO_FILE = (".png", ".jpg", ".jpeg"), ".mp4"  # what --output may name


def main(arguments: list[str] | None = None) -> None:
    """Run the command; ``arguments`` are those after its name."""
    args = _parser().parse_args(arguments)
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
        with tqdm(total=len(images), desc="drawing", unit="image", disable=not images) as bar:
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
                for _ in tqdm(drawn, frames.name, len(frames) or args.frames, unit="frame"):
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Draw a model's results over images and videos.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--model",
        metavar="MODEL",
        help="name of a published model (`python -m mask2former.zoo` lists them) or output folder of a training "
        f"[{DEFAULT_MODEL}]",
    )
    source.add_argument(
        "--config-file", metavar="FILE", help="configuration file; give its weights by --opts MODEL.WEIGHTS FILE"
    )
    add(
        "--input",
        nargs="+",
        default=[],
        metavar="PATH",
        help="images, videos, folders of images, quoted globs, URLs of images",
    )
    add("--video-input", metavar="FILE", help="a video, whatever its suffix")
    add(
        "--webcam",
        nargs="?",
        type=int,
        const=0,
        metavar="NUMBER",
        help="number of a camera, drawn until Ctrl-C or --frames [0]",
    )
    add("--frames", type=_positive, metavar="N", help="draw only N frames of each video or camera")
    add("--start", type=int, default=0, metavar="N", help="first frame of each video, counted from 0 [0]")
    add("--every", type=_positive, default=1, metavar="N", help="draw only every Nth frame of videos [1]")
    add("--no-track", action="store_true", help="do not link the objects of a video from frame to frame")
    add(
        "--window",
        type=_positive,
        metavar="N",
        help="with a model of clips: frames that it sees at once, a third of them with those before too [12]",
    )
    add("--tracks", metavar="FILE", help="write the tracks of a video: .json in YouTube-VIS's form, or .csv")
    add("--keep-sound", action="store_true", help="copy the sound of videos")
    add(
        "--output",
        default="drawn",
        metavar="FOLDER",
        help="folder, created if it does not exist; for a single input, a file [drawn]",
    )
    add(
        "--confidence-threshold",
        type=_share,
        metavar="SHARE",
        help=f"0 to 1. Instances with a lower score are not drawn (default {INSTANCE_THRESHOLD}). For panoptic "
        "results it is MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD: queries with a lower score are ignored "
        "(default: the configuration's value). Semantic results have no scores.",
    )
    add(
        "--task",
        choices=list(RESULTS),
        help="draw only this task [all tasks of the model; for videos, or if --output is a file, the first one]",
    )
    add("--style", choices=["overlay", "side-by-side"], default="overlay", help="[%(default)s]")
    add(
        "--mode",
        choices=[*MODES, LABELS],
        default="overlay",
        help="colours over the image, masks only, contours, boxes of things, or a png of label numbers (16 bits "
        "where there are more than 255) [%(default)s]",
    )
    add("--legend", action="store_true", help="list colours and classes below the image")
    add("--save-json", action="store_true", help="write COCO json of each task, and COCO's pngs of panoptic results")
    add("--save-masks", action="store_true", help="write a png for each object or class of each image")
    add(
        "--mask",
        metavar="FILE",
        help="image of one channel and of the input's size, not 0 where a pixel is marked: only those pixels are seen "
        "and labelled, or, by a model with a mask encoder, the objects that they mean are found",
    )
    add(
        "--batch-size",
        type=_positive,
        default=1,
        metavar="N",
        help="images processed at a time; more is faster on a GPU [1]",
    )
    add(
        "--tile",
        type=_positive,
        metavar="PIXELS",
        help="cut larger images into tiles of this size instead of shrinking them",
    )
    add("--tile-if-needed", action="store_true", help="cut an image into tiles if it does not fit into memory")
    add("--overlap", type=int, default=128, metavar="PIXELS", help="overlap of tiles [%(default)s]")
    add_trust(parser)
    add(
        "--opts",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="KEY VALUE",
        help="configuration keys to change, last on the line, such as MODEL.WEIGHTS model_final.pth",
    )
    return parser


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not within 0 and 1")
    return share


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number


if __name__ == "__main__":
    main()
