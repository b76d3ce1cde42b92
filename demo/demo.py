#!/usr/bin/env python3
"""Draw a model's results over pictures. ``--help`` shows how."""

from __future__ import annotations

import argparse
import glob
import os
import sys
from pathlib import Path

import mask2former  # noqa: F401  (mends Detectron2, so it comes first)

# isort: split
from detectron2.config import CfgNode
from tqdm import tqdm

from mask2former.data import register_all
from mask2former.data.files import read_picture
from mask2former.data.readers import PICTURE_SUFFIXES
from mask2former.engine import ConfigError, load_config
from mask2former.predictor import Predictor
from mask2former.visualization import RESULTS, draw_result, save_picture, side_by_side

EXAMPLES = """
examples:
  Everything that the model gives, for two pictures and a folder:
    demo.py --config-file configs/quickstart/panoptic.yaml --input a.jpg b.jpg photos/ --output drawn \\
        --opts MODEL.WEIGHTS output/quickstart/panoptic/model_final.pth
  Only instances with a score of at least 0.8, beside the picture:
    demo.py --config-file FILE --input "photos/*.jpg" --output drawn --task instance --style side-by-side \\
        --confidence-threshold 0.8 --opts MODEL.WEIGHTS FILE
"""
INSTANCE_THRESHOLD = 0.5


def main(arguments: list[str] | None = None) -> None:
    """The command; ``arguments`` are those after its name."""
    args = _parser().parse_args(arguments)
    pictures, failures = _find_pictures(args.input)
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    if not pictures:
        sys.exit("error: there is no picture to draw on.")
    output = Path(args.output)
    if output.exists() and not output.is_dir():
        sys.exit(f"error: --output {output} is a file; name a folder.")
    register_all(os.environ.get("DETECTRON2_DATASETS", "datasets"))
    try:
        predictor = Predictor(_config(args))
    except (ConfigError, ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    tasks = predictor.tasks if args.task is None else [args.task]
    if not set(tasks) <= set(predictor.tasks):
        sys.exit(
            f"error: this configuration gives {', '.join(predictor.tasks)}, not {args.task}. Where the model was "
            f"trained for it, add --opts MODEL.MASK_FORMER.TEST.{args.task.upper()}_ON True"
        )

    output.mkdir(parents=True, exist_ok=True)
    threshold = INSTANCE_THRESHOLD if args.confidence_threshold is None else args.confidence_threshold
    written: list[Path] = []
    for path in tqdm(pictures, desc="drawing", unit="picture"):
        try:
            picture = read_picture(str(path), "RGB")
        except (OSError, ValueError) as error:
            failures.append(str(error))
            tqdm.write(f"error: {error}", file=sys.stderr)
            continue
        result = predictor(picture)
        for task in tasks:
            drawn = draw_result(picture, result, predictor.metadata, threshold, task)
            if args.style == "side-by-side":
                drawn = side_by_side(picture, None, drawn)
            written.append(save_picture(_free_name(output, f"{path.stem}_{task}", written), drawn))
    print(f"{len(written)} pictures ({', '.join(tasks)}) in {output}")
    if failures:
        sys.exit(f"error: {len(failures)} of the inputs could not be drawn; see above.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Draw a model's results over pictures.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument("--input", required=True, nargs="+", metavar="PATH", help="pictures, folders of them, globs")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="made if it is not there")
    parser.add_argument(
        "--confidence-threshold",
        type=_share,
        metavar="SHARE",
        help="0 to 1. Instances with a lower score are not drawn (default 0.5). For panoptic results it is "
        "MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD: queries with a lower score take no part (default: the "
        "configuration's value). Semantic results have no scores.",
    )
    parser.add_argument(
        "--task", choices=list(RESULTS), help="draw this alone (default: all that MODEL.MASK_FORMER.TEST switches on)"
    )
    parser.add_argument("--style", choices=["overlay", "side-by-side"], default="overlay", help="[%(default)s]")
    parser.add_argument(
        "--allow-unsafe-config",
        action="store_true",
        help="run the code in tags such as !!python/object of the configuration file; only for files that you trust",
    )
    parser.add_argument(
        "--opts",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="KEY VALUE",
        help="of the configuration, last on the line, such as MODEL.WEIGHTS model_final.pth",
    )
    return parser


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not within 0 and 1")
    return share


def _config(args: argparse.Namespace) -> CfgNode:
    cfg = load_config(args.config_file, args.opts, args.allow_unsafe_config)
    if args.confidence_threshold is not None:
        cfg.MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD = args.confidence_threshold
    cfg.freeze()
    return cfg


def _find_pictures(inputs: list[str]) -> tuple[list[Path], list[str]]:
    """(Pictures that the inputs name, what is wrong with inputs that name none)."""
    pictures: list[Path] = []
    failures: list[str] = []
    for text in inputs:
        path = Path(text).expanduser()
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
            problem = f"the folder holds no picture ({', '.join(PICTURE_SUFFIXES)})."
        elif path.is_file():
            found, problem = [path], ""
        else:
            found = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
            problem = "no such file; give a picture, a folder or a quoted glob."
        if not found:
            failures.append(f"{text}: {problem}")
        pictures += found
    return list(dict.fromkeys(pictures)), failures


def _free_name(folder: Path, name: str, taken: list[Path]) -> Path:
    """A file of this run's own: pictures of different folders may share their name."""
    file, number = folder / f"{name}.png", 2
    while file in taken:
        file, number = folder / f"{name}_{number}.png", number + 1
    return file


if __name__ == "__main__":
    main()
