"""Our configuration files against what the published ones set, key by key."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model

from mask2former import add_maskformer2_config, add_maskformer2_video_config
from mask2former.checkpoint.published import from_published, to_published
from mask2former.config import load_config
from mask2former.data import register_all

ROOT = Path(__file__).parents[1]
PUBLISHED = json.loads((ROOT / "tests/spec/published_configs.json").read_text())
BACKBONES = {
    "R50": "r50",
    "R101": "r101",
    "swin_tiny": "swin",
    "swin_small": "swin_small",
    "swin_base_384": "swin_base",
    "swin_base_IN21k_384": "swin_base_in21k",
    "swin_large_IN21k_384": "swin_large_in21k",
}


def our_name(published: str) -> str:
    """coco/panoptic-segmentation/swin/maskformer2_swin_tiny_bs16_50ep.yaml -> coco/panoptic/swin."""
    dataset, task, *_, file = published.split("/")
    backbone = re.fullmatch(r"maskformer2?_(.+)_bs16_.*\.yaml", file)
    assert backbone, published
    return f"{dataset.replace('-', '_')}/{task.removesuffix('-segmentation')}/{BACKBONES[backbone[1]]}"


# Every published model on images. No key is left out of the comparison: paths of weights are the published ones too.
OURS = {our_name(p): p for p in PUBLISHED["configs"] if "youtubevis" not in p and "/Base-" not in p}
# Of another paper, whose repository had its own files; the published Mask2Former has none for it.
NOT_MASK2FORMER = {f"ade20k/semantic/{name}_r50" for name in ("maskformer", "per_pixel", "per_pixel_plus")}
ALL = sorted(p for p in (ROOT / "configs").rglob("*.yaml") if "_base_" not in p.parts)


def flatten(node: CfgNode, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, CfgNode):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def defaults() -> dict[str, Any]:
    cfg = get_cfg()
    add_maskformer2_config(cfg)
    return flatten(cfg)


def test_defaults_are_the_published_ones() -> None:
    ours = defaults()
    assert {key: ours.get(key) for key in PUBLISHED["defaults_added_to_detectron2"]} == PUBLISHED[
        "defaults_added_to_detectron2"
    ]


def test_every_published_image_model_has_a_configuration() -> None:
    published = {"coco", "ade20k", "cityscapes", "mapillary_vistas"}
    ours = {
        str(p.relative_to(ROOT / "configs").with_suffix(""))
        for p in ALL
        if not p.name.startswith(("eomt", "segvit", "kmax", "max_deeplab"))
    }
    assert len(OURS) == 47
    assert {name for name in ours if name.split("/")[0] in published} - NOT_MASK2FORMER == OURS.keys()


@pytest.mark.parametrize("name", OURS)
def test_resolves_to_the_published_configuration(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # else MODEL.DEVICE falls back to the CPU
    resolved = flatten(load_config(str(ROOT / f"configs/{name}.yaml")))
    assert resolved == {**defaults(), **PUBLISHED["configs"][OURS[name]]}


@pytest.mark.parametrize("published", [p for p in PUBLISHED["configs"] if "youtubevis" in p and "/Base-" not in p])
def test_clips_resolve_to_the_published_configuration(published: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    backbone = re.fullmatch(r".*/video_maskformer2_(.+)_bs16_8ep\.yaml", published)
    assert backbone
    name = f"{published.split('/')[0]}/instance/{BACKBONES[backbone[1]]}"
    resolved = flatten(load_config(str(ROOT / f"configs/{name}.yaml")))
    assert resolved == {**defaults(), **PUBLISHED["configs"][published]}


@pytest.mark.parametrize("year", ["2019", "2021"])
def test_published_keys_of_clips_give_the_model(year: str) -> None:
    cfg = get_cfg()
    add_maskformer2_config(cfg)
    before = flatten(cfg)
    add_maskformer2_video_config(cfg)
    assert flatten(cfg) == before and before["INPUT.SAMPLING_FRAME_NUM"] == 2
    values = PUBLISHED["configs"][f"youtubevis_{year}/video_maskformer2_R50_bs16_8ep.yaml"]
    cfg.merge_from_list([part for pair in values.items() for part in pair])
    cfg.MODEL.DEVICE, cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = "cpu", 18, 64
    cfg.MODEL.MASK_FORMER.DEC_LAYERS = 2
    model = build_model(cfg)
    assert type(model).__name__ == "VideoMaskFormer" and (model.num_classes, model.num_tracks) == (40, 10)
    names = [type(module).__name__ for module in model.modules()]
    assert names.count("VideoMultiScaleMaskedTransformerDecoder") == 1


def test_maskformer_differs_by_network_losses_and_solver_alone() -> None:
    """MaskFormer's model is trained on ADE20K with the same images and schedule (arXiv 2107.06278, section 4.1)."""
    first, second = (
        flatten(load_config(str(ROOT / f"configs/ade20k/semantic/{x}.yaml"))) for x in ("maskformer_r50", "r50")
    )
    head, node = "MODEL.SEM_SEG_HEAD.", "MODEL.MASK_FORMER."
    assert {key: value for key, value in first.items() if value != second[key]} == {
        head + "PIXEL_DECODER_NAME": "BasePixelDecoder",
        head + "TRANSFORMER_ENC_LAYERS": 0,
        node + "TRANSFORMER_DECODER_NAME": "StandardTransformerDecoder",
        node + "TRANSFORMER_IN_FEATURE": "res5",
        node + "MASK_LOSS": "focal",
        node + "CLASS_WEIGHT": 1.0,
        node + "MASK_WEIGHT": 20.0,
        node + "DICE_WEIGHT": 1.0,
        node + "DROPOUT": 0.1,
        node + "DEC_LAYERS": 6,
        "SOLVER.WEIGHT_DECAY": 0.0001,
        "SOLVER.AMP.ENABLED": False,
    }


@pytest.mark.parametrize(
    ("name", "training", "changes"),
    [
        (
            "coco_stuff_10k",
            "coco_2017_train_stuff_10k_sem_seg",
            {"SOLVER.MAX_ITER": 60000, "SOLVER.IMS_PER_BATCH": 32},
        ),
        (
            "ade20k_full",
            "ade20k_full_sem_seg_train",
            {"SOLVER.MAX_ITER": 200000, "MODEL.SEM_SEG_HEAD.IGNORE_VALUE": 65535},
        ),
    ],
)
@pytest.mark.parametrize("backbone", ["r50", "r101", "swin"])
def test_data_sets_without_published_files(
    name: str, training: str, changes: dict[str, Any], backbone: str, tmp_path: Path
) -> None:
    """ADE20K's configuration with crops of 640, but for what the data set and MaskFormer's schedule say."""
    register_all(str(tmp_path))
    ade20k = flatten(load_config(str(ROOT / f"configs/ade20k/semantic/{backbone}.yaml")))
    ade20k |= yaml_keys(ROOT / "configs/_base_/ade20k_640.yaml")
    found = flatten(load_config(str(ROOT / f"configs/{name}/semantic/{backbone}.yaml")))
    metadata = MetadataCatalog.get(training)
    assert found["MODEL.SEM_SEG_HEAD.NUM_CLASSES"] == len(metadata.stuff_classes)
    assert found["MODEL.SEM_SEG_HEAD.IGNORE_VALUE"] == metadata.ignore_label
    assert found["DATASETS.TRAIN"] == [training] and MetadataCatalog.get(*found["DATASETS.TEST"]).stuff_classes
    of_data = {"MODEL.SEM_SEG_HEAD.NUM_CLASSES", "DATASETS.TRAIN", "DATASETS.TEST"}
    different = {key: value for key, value in found.items() if value != ade20k[key] and key not in of_data}
    assert different == changes


def yaml_keys(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text())
    content.pop("VERSION")
    return flatten(CfgNode(content))


@pytest.mark.parametrize("published", PUBLISHED["configs"])
def test_published_file_loads_unchanged(published: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its keys in a file upon a base, sizes by the line that the published files compute them with."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    values = PUBLISHED["configs"][published]
    keys = sorted(values)
    (tmp_path / "base.yaml").write_text("VERSION: 2\n" + as_yaml({key: values[key] for key in keys[::2]}))
    (tmp_path / "top.yaml").write_text("_BASE_: base.yaml\n" + as_yaml({key: values[key] for key in keys[1::2]}))
    assert flatten(load_config(str(tmp_path / "top.yaml"))) == {**defaults(), **values}


def as_yaml(flat: dict[str, Any]) -> str:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *nodes, leaf = key.split(".")
        node = nested
        for name in nodes:
            node = node.setdefault(name, {})
        node[leaf] = value
    text = yaml.safe_dump(nested, default_flow_style=None, width=1000)
    sizes = flat.get("INPUT.MIN_SIZE_TRAIN", [])
    if len(sizes) == 16:
        line = f'!!python/object/apply:eval ["[int(x * 0.1 * {sizes[5]}) for x in range(5, 21)]"]'
        assert str(sizes) in text
        text = text.replace(str(sizes), line)
    return text


@pytest.mark.parametrize("path", ALL, ids=lambda p: str(p.relative_to(ROOT / "configs")))
def test_is_short_and_loads(path: Path) -> None:
    load_config(str(path))
    assert len(path.read_text().splitlines()) <= 15 or path.name == "base.yaml"


@pytest.mark.parametrize(
    ("spec", "changes"),
    [("r50", []), ("swin_tiny", ["MODEL.BACKBONE.NAME", "D2SwinTransformer"])],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_has_the_published_parameters(tmp_path: Path, spec: str, changes: list[str]) -> None:
    """Names and shapes, and values that go there and back."""
    register_all(str(tmp_path))
    cfg = load_config(str(ROOT / "configs/coco/panoptic/r50.yaml"), ["MODEL.DEVICE", "cpu", *changes])
    state = build_model(cfg).state_dict()
    published = to_published(state)
    expected = json.loads((ROOT / f"tests/spec/published_params_coco_panoptic_{spec}.json").read_text())
    assert {name: list(value.shape) for name, value in published.items()} == expected
    back = from_published(published)
    assert back.keys() == state.keys() and all(back[name] is state[name] for name in state)
