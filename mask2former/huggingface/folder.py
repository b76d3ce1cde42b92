"""Write a model as a folder that Hugging Face's ``from_pretrained`` opens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor

from mask2former.checkpoint import hf_resnet, hf_swin
from mask2former.checkpoint.formats import convert
from mask2former.checkpoint.weights_io import read, write
from mask2former.files import write_text
from mask2former.huggingface.card import model_card
from mask2former.huggingface.model_config import model_config, processor_config
from mask2former.predictor.resolve_model import model_config as configuration
from mask2former.predictor.resolve_model import model_metadata
from mask2former.predictor.weights import trained_weights

SCORES = "scores.json"  # as an evaluation writes it


def write_folder(
    model: str | Path | CfgNode,
    folder: str | Path,
    *,
    weights: str | None = None,
    name: str | None = None,
    license: str | None = None,
) -> Path:
    """Write ``config.json``, ``preprocessor_config.json``, ``model.safetensors`` and the card ``README.md``.

    Args:
        model, weights: as :class:`mask2former.Predictor` takes them. The scores in the card are those of
            ``scores.json`` in the output folder of a training.
        folder: is made if it is missing; files of these names are overwritten.
        name: the model's in the card, such as ``org/name``; that of the folder if None.
        license: identifier of the weights' licence, such as "cc-by-nc-4.0", for the card.

    Returns:
        The folder.

    Raises:
        ValueError: Hugging Face's Mask2Former has no place for a part of the model; or no weights.
        FileNotFoundError: there is no such model.
        ImportError: the package safetensors is not installed.
    """
    folder = Path(folder).expanduser()
    cfg = configuration(model, weights, [])
    metadata = model_metadata(cfg)
    things, stuff = (list(metadata.get(f"{kind}_classes", ())) for kind in ("thing", "stuff"))
    names = stuff if len(stuff) >= len(things) else things
    described = model_config(cfg, names)
    file = trained_weights(cfg.MODEL.WEIGHTS)
    state = convert(read(file)["model"], "hf")
    state |= _derived(state, described)
    dataset = str(metadata.name)
    if Path(dataset).is_absolute():  # known by the path of its file
        dataset = Path(dataset).parent.name
    of_things = set(metadata.get("thing_dataset_id_to_contiguous_id", {}).values())
    card = model_card(
        cfg,
        names,
        _scores(model),
        stuff=[number for number in range(len(names)) if number not in of_things],
        name=name or folder.resolve().name,
        dataset=dataset,
        license=license,
    )
    folder.mkdir(parents=True, exist_ok=True)
    for file_name, content in (("config.json", described), ("preprocessor_config.json", processor_config(cfg))):
        write_text(folder / file_name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    write(state, str(folder / "model.safetensors"))
    write_text(folder / "README.md", card)
    return folder


def _derived(state: dict[str, Tensor], described: dict[str, Any]) -> dict[str, Tensor]:
    """Return tensors of their model that follow from its configuration, or that nothing reads."""
    weight = torch.ones(len(described["id2label"]) + 1)
    weight[-1] = described["no_object_weight"]
    found = {"criterion.empty_weight": weight}
    if described["backbone_config"]["model_type"] == "swin":  # a norm that their backbone never uses
        channels = described["backbone_config"]["embed_dim"] * 8
        found[hf_swin.ENCODER + "swin.layernorm.weight"] = torch.ones(channels)
        found[hf_swin.ENCODER + "swin.layernorm.bias"] = torch.zeros(channels)
    for name in state:
        if name.startswith(hf_resnet.ENCODER) and name.endswith("running_mean"):  # counts of training steps
            found[name.replace("running_mean", "num_batches_tracked")] = torch.zeros((), dtype=torch.int64)
    return found


def _scores(model: str | Path | CfgNode) -> dict[str, Any]:
    if isinstance(model, CfgNode):
        return {}
    path = Path(model).expanduser()
    file = (path if path.is_dir() else path.parent) / SCORES
    if not path.exists() or not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: not a json file ({error}). Evaluate again, or take it away.") from error
    return content if isinstance(content, dict) else {}
