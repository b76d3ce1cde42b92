"""The words of ``mask2former predict``."""

from __future__ import annotations

import argparse

from mask2former_cli.arguments import add_trust, positive
from mask2former_cli.choices import BACKENDS, DEFAULT_MODEL, INSTANCE_THRESHOLD, LABELS, MODES, TASKS

EXAMPLES = f"""
examples:
  Draw everything that the default model ({DEFAULT_MODEL}, downloaded once) finds in an image:
    %(prog)s --input img.jpg
  A folder, a glob and a URL with a model that you trained:
    %(prog)s --model output/mine --input photos/ "more/*.jpg" https://example.org/a.jpg --output results
  Draw only instances with a score of at least 0.8, beside the image, with a legend:
    %(prog)s --input img.jpg --task instance --confidence-threshold 0.8 --style side-by-side --legend
  Write files for other programs: COCO json, a mask for each object, a map of labels:
    %(prog)s --input photos/ --save-json --save-masks --mode labels
  An aerial image at its own scale, in tiles:
    %(prog)s --input city.png --tile 1024 --task panoptic
  Only the marked pixels of an image; or, with a model that has a mask encoder, the object that a coarse mask means:
    %(prog)s --model output/mine --input img.jpg --mask mask.png
  A film, with its objects followed; their tracks as a table or json of YouTube-VIS; a camera, until Ctrl-C:
    %(prog)s --input film.mp4 --output drawn.mp4 --keep-sound
    %(prog)s --input film.mp4 --task instance --tracks tracks.csv --start 100 --every 2 --frames 50
    %(prog)s --webcam
  A large set, in shards: stopped and started again, it goes on; tar files and URLs such as s3://bucket/images too:
    %(prog)s --model output/mine --input images/ --engine local --output results
    %(prog)s --model output/mine --input s3://bucket/images --engine ray --workers 8 --gpus 0.5 --output results
  A configuration and weights, as in the published demo:
    %(prog)s --config-file FILE --input a.jpg b.jpg --output drawn --opts MODEL.WEIGHTS model_final.pkl
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Make the parser."""
    result = argparse.ArgumentParser(
        prog=prog,
        description="Draw a model's results over images and videos.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    source = result.add_mutually_exclusive_group()
    source.add_argument(
        "--model",
        metavar="MODEL",
        help="name of a published model (`mask2former zoo` lists them) or output folder of a training "
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
    add("--frames", type=positive, metavar="N", help="draw only N frames of each video or camera")
    add("--start", type=int, default=0, metavar="N", help="first frame of each video, counted from 0 [0]")
    add("--every", type=positive, default=1, metavar="N", help="draw only every Nth frame of videos [1]")
    add("--no-track", action="store_true", help="do not link the objects of a video from frame to frame")
    add(
        "--window",
        type=positive,
        metavar="N",
        help="with a model of clips: frames that it sees at once, a third of them with those before too [12, or what "
        "the configuration says under TEST.CLIP windows]",
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
        choices=TASKS,
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
        type=positive,
        default=1,
        metavar="N",
        help="images processed at a time; more is faster on a GPU [1]",
    )
    add(
        "--tile",
        type=positive,
        metavar="PIXELS",
        help="cut larger images into tiles of this size instead of shrinking them",
    )
    add("--tile-if-needed", action="store_true", help="cut an image into tiles if it does not fit into memory")
    add(
        "--backend",
        choices=BACKENDS,
        default="torch",
        help="engine that runs the network; all but torch on the CPU, by the extras export and openvino [%(default)s]",
    )
    add("--program", metavar="FILE", help="ONNX file of the model's network for --backend, such as one in int8")
    add("--overlap", type=int, default=128, metavar="PIXELS", help="overlap of tiles [%(default)s]")
    add_large_sets(result)
    add_trust(result)
    add(
        "--opts",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="KEY VALUE",
        help="configuration keys to change, last on the line, such as MODEL.WEIGHTS model_final.pth",
    )
    return result


def add_large_sets(parser: argparse.ArgumentParser) -> None:
    """Add what is said of sets too large for one run to be sure to end."""
    group = parser.add_argument_group("large sets (results as files, nothing drawn)")
    add = group.add_argument
    add("--engine", choices=["local", "ray"], help="write results in shards: by this process, or by workers of Ray")
    add("--form", choices=["json", "parquet"], default="json", help="COCO json, or a table for each shard [json]")
    add("--image-root", metavar="FOLDER", help="folder of the images of a COCO json in --input [beside it]")
    add("--shard-size", type=positive, default=256, metavar="N", help="images in a file [256]")
    add("--workers", type=positive, default=1, metavar="N", help="Ray's workers [1]")
    add("--gpus", type=float, default=0, metavar="SHARE", help="GPUs of each worker, such as 0.5 [0]")
    add("--cpus", type=float, default=1, metavar="N", help="processor cores of each worker [1]")
    add("--address", metavar="HOST", help="a Ray cluster, such as auto or ray://head:10001 [one on this machine]")


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not within 0 and 1")
    return share
