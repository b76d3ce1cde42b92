"""Write the card of a model, README.md, from its configuration and scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from detectron2.config import CfgNode
from tabulate import tabulate

# Of an evaluation's scores, those that tell the most: results -> score -> name.
SHOWN = {
    "panoptic_seg": {"PQ": "PQ", "PQ_th": "PQ of things", "PQ_st": "PQ of stuff"},
    "segm": {"AP": "mask AP", "AP50": "mask AP50"},
    "sem_seg": {"mIoU": "mIoU"},
}
CODE = """import torch
from PIL import Image
from transformers import AutoImageProcessor, Mask2FormerForUniversalSegmentation

processor = AutoImageProcessor.from_pretrained("{name}")
model = Mask2FormerForUniversalSegmentation.from_pretrained("{name}")
image = Image.open("image.jpg").convert("RGB")
with torch.no_grad():
    outputs = model(**processor(image, return_tensors="pt"))
{read}"""
SEGMENTS = """for segment in result["segments_info"]:
    print(model.config.id2label[segment["label_id"]], segment["score"])
"""
READ = {
    "panoptic": """result = processor.post_process_panoptic_segmentation(
    outputs,
    threshold={threshold:g},
    overlap_mask_area_threshold={overlap:g},
    label_ids_to_fuse={{{stuff}}},  # without single objects
    target_sizes=[image.size[::-1]],
)[0]
"""
    + SEGMENTS,
    "instance": """result = processor.post_process_instance_segmentation(outputs, target_sizes=[image.size[::-1]])[0]
"""
    + SEGMENTS,
    "semantic": """labels = processor.post_process_semantic_segmentation(outputs, target_sizes=[image.size[::-1]])[0]
print({model.config.id2label[number] for number in labels.unique().tolist()})
""",
}
AS_IT_IS = (
    "The model saw images as they are, not resized; its sides have to be multiples of 32, as `image.crop` makes them."
)


def model_card(
    cfg: CfgNode,
    names: Sequence[str],
    scores: Mapping[str, Any],
    *,
    stuff: Sequence[int],
    name: str,
    dataset: str,
    license: str | None,
) -> str:
    """Return the text of a card.

    Args:
        cfg: the model's configuration.
        names: names of its classes.
        scores: content of ``scores.json``; empty if it was not evaluated.
        stuff: numbers of the classes without single objects.
        name: the model's, such as ``org/name``.
        dataset: the data set that the scores are of.
        license: identifier of the weights' licence, such as "cc-by-nc-4.0"; None: the card names none.
    """
    found = list(_chosen(scores))
    head: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "image-segmentation",
        **({"license": license} if license else {}),
        "tags": ["mask2former", "image-segmentation", *(f"{task}-segmentation" for task in _tasks(cfg))],
    }
    if found:
        head["model-index"] = [
            {
                "name": name.split("/")[-1],
                "results": [
                    {
                        "task": {"type": "image-segmentation"},
                        "dataset": {"name": dataset, "type": dataset},
                        "metrics": [{"type": title, "name": title, "value": value} for title, value in found],
                    }
                ],
            }
        ]
    tasks = _tasks(cfg)
    solver, former = cfg.SOLVER, cfg.MODEL.MASK_FORMER
    facts = [
        ("results", ", ".join(tasks)),
        ("backbone", _backbone(cfg)),
        ("queries", former.NUM_OBJECT_QUERIES),
        ("iterations, images in each", f"{solver.MAX_ITER}, {solver.IMS_PER_BATCH}"),
        ("optimizer, learning rate", f"{solver.OPTIMIZER}, {solver.BASE_LR:g}"),
        ("shortest, longest side in the test", _sides(cfg)),
    ]
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n\n# {name.split('/')[-1]}",
        f"Mask2Former for {', '.join(tasks)} segmentation, with {len(names)} classes: {', '.join(names)}.",
        "## Scores\n\n"
        + (
            f"On {dataset}, in percent:\n\n{tabulate(found, ['score', 'value'], tablefmt='github', floatfmt='.1f')}"
            if found
            else "It was not evaluated."
        ),
        f"## Training\n\n{tabulate(facts, ['', ''], tablefmt='github')}",
        f"## Use\n\n```python\n{CODE.format(name=name, read=_read(cfg, tasks[0], stuff))}```",
        *([] if cfg.INPUT.MIN_SIZE_TEST else [AS_IT_IS]),
    ]
    return "\n\n".join(parts) + "\n"


def _tasks(cfg: CfgNode) -> list[str]:
    test = cfg.MODEL.MASK_FORMER.TEST
    return [task for task in ("panoptic", "instance", "semantic") if test[f"{task.upper()}_ON"]] or ["semantic"]


def _sides(cfg: CfgNode) -> str:
    return f"{cfg.INPUT.MIN_SIZE_TEST}, {cfg.INPUT.MAX_SIZE_TEST}" if cfg.INPUT.MIN_SIZE_TEST else "as they are"


def _read(cfg: CfgNode, task: str, stuff: Sequence[int]) -> str:
    """Return code that reads the results, with the settings by which the model was scored."""
    if task != "panoptic":
        return READ[task]
    test = cfg.MODEL.MASK_FORMER.TEST
    numbers = ", ".join(map(str, stuff))
    return READ[task].format(threshold=test.OBJECT_MASK_THRESHOLD, overlap=test.OVERLAP_THRESHOLD, stuff=numbers)


def _backbone(cfg: CfgNode) -> str:
    if cfg.MODEL.BACKBONE.NAME == "build_resnet_backbone":
        return f"ResNet-{cfg.MODEL.RESNETS.DEPTH}"
    return f"Swin, {cfg.MODEL.SWIN.EMBED_DIM} channels, {'-'.join(map(str, cfg.MODEL.SWIN.DEPTHS))} blocks"


def _chosen(scores: Mapping[str, Any]) -> list[tuple[str, float]]:
    found = []
    for results, titles in SHOWN.items():
        of_results = scores.get(results)
        for key, title in titles.items():
            value = of_results.get(key) if isinstance(of_results, Mapping) else None
            if isinstance(value, int | float) and math.isfinite(value):
                found.append((title, round(float(value), 2)))
    return found
