#!/usr/bin/env python3
"""Write docs/configs.md from the modules of the configuration: every key, its default, and the comments there.

Run it after a change of the configuration; a test fails if the page is out of date.
"""

from __future__ import annotations

import io
import itertools
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = ("input_keys", "solver_keys", "model_keys", "evaluation_keys", "kmax", "max_deeplab", "pq", "classifier")
SOURCES = [ROOT / "mask2former" / "config" / f"{name}.py" for name in FILES]
PAGE = ROOT / "docs" / "configs.md"
INTRODUCTION = """# Configuration keys

Written by `tools/make_config_docs.py` from `mask2former/config`: every key that this project adds to
[Detectron2's](https://detectron2.readthedocs.io/en/latest/modules/config.html#yaml-config-references), its default
included. The defaults are those of the published system. The files below `configs/` set what each model uses;
`KEY value` pairs on the command line go last. A file may name several others in `_BASE_`.

"""
TITLES = {
    "add_input_keys": "Images and data",
    "add_clip_keys": "Clips of videos",
    "add_solver_keys": "Optimiser and schedule",
    "add_head_keys": "Pixel decoder and heads",
    "add_mask_former_keys": "Losses, transformer decoder and results",
    "add_backbone_keys": "Backbones",
    "add_kmax_config": "kMaX-DeepLab",
    "add_max_deeplab_config": "MaX-DeepLab",
    "add_classifier_keys": "Classes of whole images",
    "add_pq_config": "Losses of masks that are a softmax over slots",
    "add_guided_keys": "Teachers and masks that guide",
    "add_evaluation_keys": "Evaluation",
    "add_wandb_keys": "Weights & Biases",
}


@dataclass
class Key:
    """A line of the page."""

    name: str
    default: str
    remark: str  # on this key alone
    comment: str  # on this key and its neighbours


def sections() -> Iterator[tuple[str, list[Key]]]:
    """Yield (title, keys) of each function in the sources that adds keys."""
    for source in SOURCES:
        for function in re.split(r"\n(?=def )", source.read_text()):
            name = re.match(r"def (\w+)", function)
            if name and name[1] in TITLES:
                yield TITLES[name[1]], list(_keys(function))


def _keys(function: str) -> Iterator[Key]:
    nodes = {"cfg": ""}  # variable -> the keys before its own
    comment: list[str] = []
    after_code = True
    for line in function.splitlines()[1:]:
        code, remark = _split_comment(line.strip())
        if not code:  # a comment holds for all keys up to an empty line or another comment
            comment = [] if not remark else [remark] if after_code else [*comment, remark]
            after_code = not remark
            continue
        after_code = True
        if alias := re.fullmatch(r"(\w+) = ([\w.]+)(?: = CN\(\))?", code):
            nodes[alias[1]] = _full(alias[2], nodes) + "."
        elif (key := re.fullmatch(r"([\w.]+) = (.+)", code)) and key[2] != "CN()":
            default = key[2].replace("CN(new_allowed=True)", "{}")
            yield Key(_full(key[1], nodes), default, remark, " ".join(comment))


def _full(name: str, nodes: dict[str, str]) -> str:
    variable, _, rest = name.partition(".")
    return nodes[variable] + rest


def _split_comment(line: str) -> tuple[str, str]:
    for token in tokenize.generate_tokens(io.StringIO(line + "\n").readline):
        if token.type == tokenize.COMMENT:
            return line[: token.start[1]].strip(), token.string.removeprefix("#").strip()
    return line, ""


def page() -> str:
    """Return the whole page."""
    text = INTRODUCTION
    for title, keys in sections():
        text += f"## {title}\n\n"
        for comment, group in itertools.groupby(keys, lambda key: key.comment):
            text += f"{comment}\n\n"
            text += "".join(f"- `{key.name}`: `{key.default}`{key.remark and f' ({key.remark})'}\n" for key in group)
            text += "\n"
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
