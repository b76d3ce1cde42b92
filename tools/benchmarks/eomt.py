"""`benchmark.py eomt`: EoMT beside Hugging Face's, with the same random weights, taking turns."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.modeling import build_model
from tabulate import tabulate
from torch import Tensor, nn

from benchmarks.cases import parse_size
from benchmarks.command import sub_command, write_numbers
from mask2former.checkpoint.eomt import to_hf
from mask2former.config import load_config
from mask2former.data import register_all
from mask2former.data.mapper.augmentation import ResizeShortestEdge
from mask2former.measure.machine import describe
from mask2former.measure.timing import Patience, by_processor_time, take_turns
from mask2former.modeling.eomt import EoMT

ABOUT = """EoMT with random weights, ours and transformers' EomtForUniversalSegmentation with the same weights, taking
turns. The class head is biased so that --objects queries hold an object.

whole    from a uint8 image to panoptic segments at its size: ours as the predictor does it; theirs by
         EomtImageProcessor, the model, and post_process_panoptic_segmentation
network  from a normalised square to class logits and mask logits

With one thread, times are processor time, which other programs on the machine hardly change.
"""
COLUMNS = """
Example
  %(prog)s --models coco/panoptic/eomt_small_640 coco/panoptic/eomt_base_640 --size 480x640
"""
CONFIGS = Path(__file__).parents[2] / "configs"
OURS, THEIRS = "ours", "Hugging Face"


@dataclass(frozen=True)
class Row:
    """The seconds of one image: the median, the quartiles, and the fastest run."""

    model: str
    part: str
    who: str
    median: float
    lower_quartile: float
    upper_quartile: float
    fastest: float
    runs: int


def our_model(config: str, image: np.ndarray, objects: int) -> EoMT:
    """Build a model of random weights in which ``objects`` queries hold an object, and no mask is annealed any more."""
    register_all("datasets")
    words = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""]
    for task in ("SEMANTIC", "INSTANCE"):  # theirs makes panoptic segments alone
        words += [f"MODEL.MASK_FORMER.TEST.{task}_ON", "False"]
    cfg = load_config(str(CONFIGS / f"{config}.yaml"), words)
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    model.annealing.probabilities.zero_()
    head = model.sem_seg_head.class_head
    with torch.no_grad():
        inputs = [{"image": torch.from_numpy(image).permute(2, 0, 1)}]
        head.weight *= 40 / model.predict(inputs)[0][0].std()
        logits = model.predict(inputs)[0][0]
        margins = (logits[:, :-1].amax(1) - logits[:, -1]).sort(descending=True).values
        head.bias[-1] += (margins[objects - 1] + margins[objects]) / 2
    return model


def their_model(ours: EoMT) -> nn.Module:
    """Return transformers' model of the same sizes and weights."""
    from transformers import EomtConfig, EomtForUniversalSegmentation

    vit, head = ours.backbone, ours.sem_seg_head
    block = vit.blocks[0]
    side = round(vit.pos_embed.shape[1] ** 0.5) * vit.patch_size
    config = EomtConfig(
        hidden_size=vit.embed_dim,
        num_hidden_layers=len(vit.blocks),
        num_attention_heads=block.attn.num_heads,
        image_size=side,
        patch_size=vit.patch_size,
        num_register_tokens=vit.reg_token.shape[1],
        num_upscale_blocks=len(head.upscale),
        num_blocks=len(vit.blocks) - ours.first,
        num_queries=head.num_queries,
        num_labels=head.num_classes,
        mlp_ratio=block.mlp.fc1.out_features // vit.embed_dim,
    )
    theirs = EomtForUniversalSegmentation(config)
    report = theirs.load_state_dict(to_hf(ours.state_dict()), strict=False)
    if report.unexpected_keys or report.missing_keys:
        raise RuntimeError(f"The weights do not fit: {report}.")
    return theirs.eval()


def functions(config: str, image: np.ndarray, objects: int) -> dict[tuple[str, str], Callable[[], Any]]:
    """Return what is timed, by part and by who does it.

    Raises:
        RuntimeError: the two networks do not give the same.
    """
    from transformers import EomtImageProcessor

    ours = our_model(config, image, objects)
    theirs = their_model(ours)
    cfg = load_config(str(CONFIGS / f"{config}.yaml"))
    side = cfg.MODEL.VIT.IMAGE_SIZE
    resize = ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    size = {"shortest_edge": side, "longest_edge": side}
    processor = EomtImageProcessor(size=size, do_split_image=False, do_pad=True)
    stuff = sorted(set(range(ours.num_classes)) - ours.post_processing.things)
    square = (torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) - 0.5) * 4

    @torch.inference_mode()
    def our_whole() -> Any:
        transform = resize.get_transform(image)
        pixels = torch.from_numpy(np.ascontiguousarray(transform.apply_image(image).transpose(2, 0, 1)))
        return ours([{"image": pixels, "height": image.shape[0], "width": image.shape[1]}])

    @torch.inference_mode()
    def their_whole() -> Any:
        inputs = processor(images=image, return_tensors="pt")
        found = theirs(pixel_values=inputs["pixel_values"])
        thresholds = (ours.post_processing.object_mask_threshold, ours.post_processing.overlap_threshold)
        return processor.post_process_panoptic_segmentation(
            found,
            target_sizes=[image.shape[:2]],
            threshold=thresholds[0],
            overlap_mask_area_threshold=thresholds[1],
            stuff_classes=stuff,
        )

    @torch.inference_mode()
    def our_network() -> tuple[Tensor, Tensor]:
        found = ours.network(square)
        return found.class_logits, found.masks.logits()[:, :, 0]

    @torch.inference_mode()
    def their_network() -> tuple[Tensor, Tensor]:
        found = theirs(pixel_values=square)
        return found.class_queries_logits, found.masks_queries_logits

    for mine, other in zip(our_network(), their_network(), strict=True):
        if (worst := float((mine - other).abs().max() / other.abs().max())) > 1e-3:
            raise RuntimeError(f"The networks differ by {worst:.1e} of the largest logit.")
    return {
        ("whole", OURS): our_whole,
        ("whole", THEIRS): their_whole,
        ("network", OURS): our_network,
        ("network", THEIRS): their_network,
    }


def measure(config: str, arguments: argparse.Namespace) -> list[Row]:
    height, width = arguments.size
    blocks = torch.rand(1, 3, height // 32 + 1, width // 32 + 1, generator=torch.Generator().manual_seed(0)) * 255
    pixels = nn.functional.interpolate(blocks, size=(height, width), mode="bicubic")[0].clamp(0, 255).byte()
    timed = functions(config, np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()), arguments.objects)
    if arguments.threads == 1:
        timed = {key: by_processor_time(one) for key, one in timed.items()}
    named = {"\t".join(key): one for key, one in timed.items()}
    taken = take_turns(named, Patience(arguments.repeats), torch.device("cpu"), [arguments.threads])
    rows = []
    for (name, _), times in taken.items():
        part, who = name.split("\t")
        spread = (times.median, times.lower_quartile, times.upper_quartile, times.fastest, times.runs)
        rows.append(Row(Path(config).name, part, who, *spread))
    return rows


def table(rows: Sequence[Row]) -> str:
    """Return a table in Markdown: medians, half the distance between quartiles, and how many times faster ours is."""
    found = {(row.model, row.part, row.who): row for row in rows}
    lines = []
    for model, part in dict.fromkeys((row.model, row.part) for row in rows):
        mine, other = (found[model, part, who] for who in (OURS, THEIRS))
        times = [f"{one.median:.3g} ± {(one.upper_quartile - one.lower_quartile) / 2:.2g}" for one in (mine, other)]
        lines.append([model, part, *times, f"{other.median / mine.median:.2f}", f"{other.fastest / mine.fastest:.2f}"])
    head = ["model", "part", "ours, s", "Hugging Face, s", "x", "x of the fastest"]
    return tabulate(lines, head, tablefmt="github", disable_numparse=True)


def run(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    facts = describe(torch.device("cpu"))
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    rows: list[Row] = []
    for model in arguments.models:
        print(f"measuring {model} ...", file=sys.stderr, flush=True)
        rows += measure(model, arguments)
    shown = table(rows)
    print(f"\n{shown}\n")
    if arguments.json:
        report = {"machine": facts, "threads": arguments.threads, "rows": [asdict(row) for row in rows], "table": shown}
        write_numbers(report, arguments.json)


def _size(text: str) -> tuple[int, int]:
    try:
        return parse_size(text)[1:]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    add = sub_command(commands, "eomt", run, what="EoMT beside Hugging Face's", about=ABOUT, columns=COLUMNS)
    add("--models", nargs="+", default=["coco/panoptic/eomt_base_640"], help="files below configs, without .yaml")
    add("--size", type=_size, default=(480, 640), metavar="HxW", help="image size in pixels (default: 480x640)")
    add("--objects", type=int, default=20, help="queries that hold an object (default: %(default)s)")
    add("--threads", type=int, default=1, help="number of CPU threads (default: %(default)s)")
    add("--repeats", type=int, default=3, help="number of rounds, after one that is not counted (default: %(default)s)")
    add("--json", type=Path, help="write all numbers to this file")
