#!/usr/bin/env python3
"""Train a configuration and Hugging Face's Mask2Former side by side, and compare their scores. ``--help`` shows how."""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from benchmarks.hugging_face import their_model
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from tabulate import tabulate
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.checkpoint.hf import from_hf, to_hf
from mask2former.config import ConfigError, load_config
from mask2former.data.loader import build_train_loader
from mask2former.data.mapper import Mapper
from mask2former.engine.optimizer import build_lr_scheduler, build_optimizer
from mask2former.engine.precision import AmpSettings
from mask2former.engine.train_step import TrainStep
from mask2former.engine.trainer import Trainer
from mask2former.seeds import seed_step
from mask2former_cli.arguments import add_options, add_trust

EXAMPLE = """
Both begin with the same weights and see the same batches; each draws the points of its losses by itself. Steps are
float32. Weights are scored by this package's network, which gives the same results as theirs for the same weights
(tests/modeling/test_full_swin.py). A seed that is in OUTPUT/scores.json is not trained again, so the command may be
stopped and repeated.

examples:
  compare_learning.py --output output/compare_learning
  compare_learning.py --seeds 1 2 3 --iterations 300 --output output/compare_learning SOLVER.IMS_PER_BATCH 4
"""
QUICKSTART = "configs/quickstart/panoptic.yaml"
SIDES = ("ours", "Hugging Face")
UNUSED = ("swin.layernorm.", "criterion.empty_weight", "num_batches_tracked")  # no weight of ours has these names
Scores = dict[str, dict[str, Any]]


def main(arguments: list[str] | None = None) -> None:
    """Run the command; ``arguments`` are those after its name."""
    args = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)
    try:
        cfg = load_config(args.config_file, _options(args), args.allow_unsafe_config)
        file = Path(args.output) / "scores.json"
        scores = _kept(file, cfg)
        for seed in args.seeds:
            cfg.SEED = seed
            for side in SIDES:
                if side not in scores.setdefault(str(seed), {}):
                    scores[str(seed)][side] = result = _train(cfg, side)
                    print(f"seed {seed}, {side}: {_told(result)}", flush=True)
                    file.write_text(json.dumps({"settings": _settings(cfg), "scores": scores}, indent=1) + "\n")
    except (ConfigError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(table({str(seed): scores[str(seed)] for seed in args.seeds}))


def table(scores: Scores) -> str:
    """Return the scores as text, and whether the means differ by more than the spread of the seeds."""
    metrics = [name for name in next(iter(scores.values()))[SIDES[0]] if name != "seconds"]
    rows, verdicts = [], []
    for metric in metrics:
        columns = [[of_seed[side][metric] for of_seed in scores.values()] for side in SIDES]
        means = [statistics.mean(column) for column in columns]
        spreads = [statistics.stdev(column) if len(column) > 1 else 0.0 for column in columns]
        cells = [f"{mean:.2f} ± {spread:.2f}" for mean, spread in zip(means, spreads, strict=True)]
        rows.append([metric, *cells, f"{means[0] - means[1]:+.2f}"])
        within = abs(means[0] - means[1]) <= max(spreads)
        verdicts.append(f"{metric}: {'within' if within else 'OUTSIDE of'} the spread of one side's seeds")
    text = tabulate(rows, headers=["", *SIDES, "difference"], tablefmt="github", disable_numparse=True)
    return "\n".join([f"Mean and standard deviation of {len(scores)} seeds:", text, *verdicts])


def _train(cfg: CfgNode, side: str) -> dict[str, Any]:
    """Train one side from its seed's weights; return its scores and the seconds of its steps."""
    torch.manual_seed(cfg.SEED)
    model = build_model(cfg).train()
    batches = iter(build_train_loader(cfg, Mapper(cfg, True)))
    run = _run_ours if side == SIDES[0] else _run_theirs
    start = time.perf_counter()
    run(cfg, model, batches)
    seconds = time.perf_counter() - start
    found = Trainer.test(cfg, model.eval())
    panoptic = found["panoptic_seg"]
    return {name: float(panoptic[name]) for name in ("PQ", "SQ", "RQ")} | {"seconds": round(seconds)}


def _run_ours(cfg: CfgNode, model: nn.Module, batches: Iterator[Any]) -> None:
    optimizer = build_optimizer(cfg, model)
    schedule = build_lr_scheduler(cfg, optimizer)
    limit = cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE
    step = TrainStep(model, batches, optimizer, precision=AmpSettings("cpu"), max_grad_norm=limit, seed=cfg.SEED)
    with EventStorage():
        for step.iter in range(cfg.SOLVER.MAX_ITER):
            step.run_step()
            schedule.step()


def _run_theirs(cfg: CfgNode, model: nn.Module, batches: Iterator[Any]) -> None:
    """Train their model from the weights of ``model``, and put the result back into it."""
    theirs = their_model(cfg).train()
    report = theirs.load_state_dict(to_hf(model.state_dict()), strict=False)
    if report.unexpected_keys or any(not any(part in name for part in UNUSED) for name in report.missing_keys):
        raise ValueError(f"their model has other weights than ours: {report}")
    optimizer = torch.optim.AdamW(_their_groups(cfg, theirs))
    schedule = build_lr_scheduler(cfg, optimizer)
    for iteration in range(cfg.SOLVER.MAX_ITER):
        inputs = _their_inputs(model, next(batches))
        seed_step(cfg.SEED, iteration, 0)
        optimizer.zero_grad()
        theirs(**inputs).loss.sum().backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE)
        optimizer.step()
        schedule.step()
    model.load_state_dict(from_hf(theirs.state_dict()), strict=False)


def _their_groups(cfg: CfgNode, model: nn.Module) -> list[dict[str, Any]]:
    """Return their parameters with the rates and weight decay as published."""
    undecayed = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d, nn.Embedding)
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            factor = cfg.SOLVER.BACKBONE_MULTIPLIER if "pixel_level_module.encoder" in module_name else 1.0
            free = isinstance(module, undecayed) or "relative_position_bias_table" in name
            decay = 0.0 if free else cfg.SOLVER.WEIGHT_DECAY
            groups.setdefault((cfg.SOLVER.BASE_LR * factor, decay), []).append(parameter)
    return [{"params": parameters, "lr": rate, "weight_decay": d} for (rate, d), parameters in groups.items()]


def _their_inputs(model: Any, batch: list[dict[str, Any]]) -> dict[str, Any]:
    images = model.preprocess(batch).images.tensor
    height, width = images.shape[-2:]
    masks, classes = [], []
    for one in batch:
        given = one["instances"].gt_masks.tensor.float()
        masks.append(F.pad(given, (0, width - given.shape[-1], 0, height - given.shape[-2])))
        classes.append(one["instances"].gt_classes)
    return {"pixel_values": images, "mask_labels": masks, "class_labels": classes}


def _options(args: argparse.Namespace) -> list[str]:
    fixed = {"SOLVER.MAX_ITER": args.iterations, "OUTPUT_DIR": args.output, "SOLVER.AMP.ENABLED": False}
    fixed |= {"MODEL.DEVICE": "cpu", "MODEL.MASK_FORMER.DROPOUT": 0.0, "TEST.REPORT": False}
    # Learnt queries and their losses alone: Hugging Face's model has no queries that start from places.
    fixed |= {"MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME": "MultiScaleMaskedTransformerDecoder"}
    fixed |= {"MODEL.MASK_FORMER.LOSS_TERMS": ["ClassLoss", "MaskAndDiceLoss"]}
    return [*(str(word) for pair in fixed.items() for word in pair), *args.opts]


def _settings(cfg: CfgNode) -> dict[str, Any]:
    solver = cfg.SOLVER
    return {"iterations": solver.MAX_ITER, "batch": solver.IMS_PER_BATCH, "rate": solver.BASE_LR}


def _kept(file: Path, cfg: CfgNode) -> Scores:
    """Return the scores of an earlier call.

    Raises:
        ValueError: it had other settings.
    """
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        return {}
    content = json.loads(file.read_text())
    if content["settings"] != _settings(cfg):
        raise ValueError(f"{file} is of {content['settings']}, not {_settings(cfg)}; name another --output.")
    return content["scores"]


def _told(result: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in result.items())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Train ours and Hugging Face's from the same weights and batches, and compare their scores.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config-file", default="configs/quickstart/panoptic.yaml", metavar="FILE", help="[%(default)s]"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="N", help="[1 2 3]")
    parser.add_argument("--iterations", type=int, default=300, metavar="N", help="steps of each [%(default)s]")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="folder of scores.json")
    add_trust(parser)
    add_options(parser)
    return parser


if __name__ == "__main__":
    main()
