#!/usr/bin/env python3
"""Write the tables of published models into docs/models.md from mask2former/zoo.json; a test says when it is due."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from mask2former.zoo import Model, models

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
BEGIN, END = "<!-- tables: tools/write_model_table.py -->", "<!-- end of tables -->"
BACKBONES = {
    "r50": "ResNet-50",
    "r101": "ResNet-101",
    "swin": "Swin-T",
    "swin_small": "Swin-S",
    "swin_base": "Swin-B",
    "swin_base_in21k": "Swin-B, ImageNet-21k",
    "swin_large_in21k": "Swin-L, ImageNet-21k",
    "eomt_large_512": "ViT-L, DINOv2",
    "eomt_large_640": "ViT-L, DINOv2",
    "kmax_r50": "ResNet-50",
    "kmax_convnext_tiny": "ConvNeXt-T",
    "kmax_convnext_small": "ConvNeXt-S",
    "kmax_convnext_base": "ConvNeXt-B",
    "kmax_convnext_large": "ConvNeXt-L",
}
OTHERS = {"eomt": ", EoMT", "kmax": ", kMaX-DeepLab"}  # of other papers, by the beginning of their names
DATA_SETS = {"coco": "COCO", "ade20k": "ADE20K", "cityscapes": "Cityscapes", "mapillary_vistas": "Mapillary Vistas"}
DATA_SETS |= {f"youtubevis_{year}": f"YouTube-VIS {year} (clips)" for year in (2019, 2021)}


def table(task: str, rows: list[Model]) -> str:
    """Return one data set's models for one task as Markdown."""
    data_set, kind = task.split("/")
    of = OTHERS.get(rows[0].name.rsplit("/", 1)[-1].split("_")[0], "")
    lines = [
        f"### {DATA_SETS[data_set]}, {kind}{of}",
        "",
        f"| name | backbone | schedule | {' | '.join(rows[0].scores)} |",
        f"| --- | --- | --- {'| --- ' * len(rows[0].scores)}|",
    ]
    for model in rows:
        name = f"[`{model.name}`](../{model.config})"
        scores = " | ".join(str(score) for score in model.scores.values())
        lines.append(f"| {name} | {BACKBONES[model.name.split('/')[-1]]} | {model.schedule} | {scores} |")
    return "\n".join(lines)


def written(page: str) -> str:
    """Return the page with the current tables between its two marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    groups = groupby(models().values(), key=lambda model: model.name.rpartition("/")[0])
    tables = "\n\n".join(table(task, list(rows)) for task, rows in groups)
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
