"""The words of ``mask2former train-custom``."""

from __future__ import annotations

import argparse

from mask2former_cli.arguments import add_aliases, add_overwrite, add_slurm

EXAMPLES = """
the data, in one of these forms:
  objects (COCO):        --train annotations.json images/
  panoptic (COCO):       --train panoptic.json images/ panoptic_pngs/
  classes of pixels:     --train images/ labels/    (label files named as the images, holding class numbers)
  one folder:            --data FOLDER              (of Roboflow, CVAT, labelme, YOLO, Pascal VOC, or colour masks)
  tracks in videos:      --train videos.json frames/    (YouTube-VIS; COCO with video_id and track_id; or MOTS:
                         --train images/ instances/ or instances_txt/, a folder of frames for each video)

examples:
  See what would be done, and train nothing:
    %(prog)s --train train.json images/ --val val.json images/ --model coco/instance/r50 --dry-run
  Train from published weights, evaluate, and write everything to output/cats:
    %(prog)s --train train.json images/ --val val.json images/ --model coco/instance/r50 --output output/cats
  A small network, for a CPU (with ImageNet weights from the package registry; --from-scratch without):
    %(prog)s --train images/ labels/ --classes sky,grass,road --model small
  A small model that `convert --to hf` takes (learnt queries alone, which need more iterations; docs/export.md):
    %(prog)s --train train.json images/ --model small_r18 --output output/for_hf \\
      MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME MultiScaleMaskedTransformerDecoder
  Tracks in clips of your own, which makes a model of clips:
    %(prog)s --train train.json frames/ --val val.json frames/ --model small --output output/clips
  Any setting, as KEY value pairs at the end; the rules that depend on it follow:
    %(prog)s --train train.json images/ --model coco/instance/swin SOLVER.IMS_PER_BATCH 2 SOLVER.MAX_ITER 5000
  Eight GPUs of one machine, of any by a launcher (torchrun, srun), or by a job of Slurm:
    %(prog)s --train train.json images/ --model coco/instance/swin --num-gpus 8
    torchrun --nproc-per-node 8 tools/train_custom.py --train train.json images/ --model coco/instance/swin
    %(prog)s --slurm partition=gpu,nodes=2,gpus=8,hours=12 --train train.json images/ --model coco/instance/swin
  Go on after an interruption, or evaluate again: the same command with --resume, or with --eval-only.

docs/custom-data.md tells the rules, and what to do when something is wrong.
"""


def parser(prog: str) -> argparse.ArgumentParser:
    """Make the parser."""
    result = argparse.ArgumentParser(
        prog=prog,
        description="Train on custom data: checks them, chooses the settings with reasons, trains, and evaluates.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--train", "--data", nargs="+", required=True, metavar="PATH", help="images and annotations")
    result.add_argument("--val", nargs="+", metavar="PATH", help="the same for validation [a share of --train]")
    result.add_argument("--model", default="coco/instance/r50", help="of the zoo, small, or small_r18 [%(default)s]")
    start = result.add_mutually_exclusive_group()
    start.add_argument("--weights", metavar="FILE", help="to begin with [the published ones of --model]")
    start.add_argument("--from-scratch", action="store_true", help="begin with random weights")
    result.add_argument("--output", default="output/own", help="folder for all that is written [%(default)s]")
    result.add_argument("--classes", default="", metavar="A,B,C|FILE", help="names of the classes in label files")
    result.add_argument("--ignore-label", type=int, default=255, metavar="N", help="in label files; -1: none [255]")
    result.add_argument("--dry-run", action="store_true", help="show data and settings, train nothing")
    result.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --output")
    add_overwrite(result)
    result.add_argument("--eval-only", action="store_true", help="evaluate --output's best weights, or --weights")
    result.add_argument("--num-gpus", type=int, default=1, help="[%(default)s]")
    add_slurm(result)
    result.add_argument("--quiet", action="store_true", help="on the terminal only progress, scores and warnings")
    add_aliases(result)
    result.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY value", help="settings, after all flags")
    return result
