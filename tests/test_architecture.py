"""The rooms of the house: who may import whom, and who may see the configuration. Read off the syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mask2former"
MODULES = sorted(PACKAGE.rglob("*.py"))

# A room is the longest of these names that a module's begins with. It may import itself and the rooms that are listed,
# all of which it has to need.
MAY_IMPORT: dict[str, set[str]] = {
    # mask2former/__init__.py; the last five when they are asked for
    "": {
        "compat",
        "config",
        "drop_in",
        "modeling",
        "data.datasets",
        "data.dataset_mappers",
        "evaluation",
        "evaluation.tta",
        "evaluation.video",
        "predictor",
    },
    "compat": set(),
    "config": set(),
    "structures": set(),
    "processor": set(),
    "labels": set(),
    "things": set(),
    "out_of_memory": set(),
    "files": set(),
    "seeds": set(),
    "ops": set(),
    "drop_in": {"ops"},
    "modeling.layers": {"ops"},
    "modeling.activation_checkpoint": set(),
    "modeling.backbone": {"modeling.layers", "modeling.activation_checkpoint"},
    "modeling.pixel_decoder": {"modeling.layers"},
    "modeling.transformer_decoder": {"structures", "modeling.layers"},
    "modeling.losses": {"structures", "things", "modeling.layers"},
    "modeling.mask_encoder": set(),
    "modeling.distillation": {"structures", "config", "checkpoint", "modeling.layers", "modeling.matcher"},
    "modeling.matcher": {"structures", "modeling.losses"},
    "modeling.criterion": {"structures", "modeling.losses", "modeling.matcher"},
    "modeling.pq_matcher": {"structures", "modeling.layers", "modeling.losses", "modeling.matcher"},
    "modeling.pq_criterion": {"structures", "modeling.losses", "modeling.criterion"},
    "modeling.postprocess": {"structures", "labels", "things", "modeling.layers"},
    "modeling.cpu": {"processor", "modeling.layers", "modeling.backbone"},
    "modeling.meta_arch": {
        "structures",
        "labels",
        "out_of_memory",
        "checkpoint",
        "modeling.pixel_decoder",
        "modeling.transformer_decoder",
        "modeling.criterion",
        "modeling.postprocess",
        "modeling.activation_checkpoint",
        "modeling.cpu",
        "modeling.mask_encoder",
        "modeling.distillation",
        "region",
        "tracking",
    },
    "modeling.eomt": {
        "structures",
        "modeling.activation_checkpoint",
        "modeling.backbone",
        "modeling.meta_arch",
        "modeling.postprocess",
    },
    "modeling.kmax": {
        "structures",
        "config",
        "modeling.layers",
        "modeling.backbone",
        "modeling.pixel_decoder",
        "modeling.transformer_decoder",
        "modeling.meta_arch",
    },
    "modeling.max_deeplab": {
        "structures",
        "modeling.layers",
        "modeling.backbone",
        "modeling.kmax",
        "modeling.meta_arch",
    },
    "modeling.segvit": {
        "structures",
        "modeling.layers",
        "modeling.matcher",
        "modeling.pixel_decoder",
        "modeling.transformer_decoder",
    },
    "modeling.video": {
        "structures",
        "modeling.meta_arch",
        "modeling.postprocess",
        "modeling.transformer_decoder",
    },
    "modeling": {
        "modeling.video",
        "modeling.eomt",
        "modeling.kmax",
        "modeling.max_deeplab",
        "modeling.segvit",
        "modeling.backbone",
        "modeling.pixel_decoder",
        "modeling.transformer_decoder",
        "modeling.losses",
        "modeling.pq_matcher",
        "modeling.pq_criterion",
        "modeling.meta_arch",
    },
    "data.rle": set(),
    "data.coco": {"data.rle"},
    "data.images": set(),
    "data.guide": set(),
    "data.progressive": set(),
    "data.mapper": {"things", "data.rle", "data.coco", "data.images", "data.guide", "data.progressive"},
    "data.datasets": {"data.coco", "files"},
    "data.dataset_mappers": {"data.mapper"},
    "data.repeat_factors": {"data.images"},
    "data.worker_signals": set(),
    "data.train_stream": {"seeds", "data.progressive", "data.worker_signals"},
    "data.loader": {"data.repeat_factors", "data.progressive", "data.train_stream"},
    "data.video_forms": {"files", "data.rle", "data.coco", "data.images"},
    "data.checks": {"data.coco", "data.images", "data.mapper", "data.datasets"},
    "data": {"data.mapper", "data.datasets"},
    "download": set(),
    "zoo": {"config", "download"},
    "checkpoint": {"zoo", "files", "modeling.layers"},
    "evaluation": {
        "labels",
        "files",
        "checkpoint",
        "data.rle",
        "data.coco",
        "data.images",
        "data.mapper",
        "evaluation.video",
    },
    "evaluation.video": {"files", "data.rle", "data.coco"},
    "evaluation.tta": {
        "data.images",
        "data.mapper",
        "modeling.meta_arch",
        "modeling.postprocess",
    },  # a model around a model
    "visualization": {"labels", "files", "data.images", "data.mapper"},
    "dashboard": {"files", "data.images", "evaluation", "evaluation.video", "visualization"},
    "engine": {
        "config",
        "files",
        "out_of_memory",
        "seeds",
        "processor",
        "modeling.meta_arch",
        "data.images",
        "data.loader",
        "data.train_stream",
        "data.worker_signals",
        "data.progressive",
        "data.mapper",
        "data.datasets",
        "checkpoint",
        "evaluation",
        "evaluation.tta",
        "evaluation.video",
        "dashboard",
    },
    "preflight": {"config", "data.datasets", "data.images", "evaluation", "zoo"},
    "custom": {
        "config",
        "files",
        "data.rle",
        "data.coco",
        "data.images",
        "data.datasets",
        "data.checks",
        "data.video_forms",
        "preflight",
        "zoo",
    },
    "tiling": {"labels"},
    "region": set(),
    "tracking": {"structures", "files", "data.rle", "modeling.postprocess"},
    "predictor": {
        "backends",
        "tracking",
        "config",
        "labels",
        "region",
        "out_of_memory",
        "files",
        "modeling.meta_arch",
        "modeling.postprocess",
        "tiling",
        "data.rle",
        "data.coco",
        "data.images",
        "data.mapper",
        "data.datasets",
        "checkpoint",
        "visualization",
        "zoo",
        "download",
    },
    "huggingface": {"checkpoint", "files", "predictor"},
    "export": {"files", "structures", "ops", "modeling", "modeling.meta_arch", "modeling.postprocess"},
    "backends": {"structures", "modeling.meta_arch", "checkpoint", "export"},
    "bulk": {"data.datasets", "data.images", "data.rle", "files", "predictor"},
    "measure": set(),
    "analysis": {"ops", "modeling.meta_arch"},
    "cli": {
        "analysis",
        "files",
        "measure",
        "out_of_memory",
        "modeling.meta_arch",
        "",  # the version
        "backends",
        "bulk",
        "huggingface",
        "ops",
        "config",
        "download",
        "zoo",
        "data",
        "data.checks",
        "data.images",
        "checkpoint",
        "engine",
        "preflight",
        "custom",
        "predictor",
        "visualization",
        "dashboard",
        "export",
    },
}
SEES_CONFIG = (
    "cli",
    "config",
    "custom",
    "data",
    "engine",
    "evaluation.build",
    "evaluation.instance",
    "evaluation.video.evaluator",
    "huggingface",
    "predictor",
    "preflight",
)


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def room(name: str) -> str:
    candidates = [r for r in MAY_IMPORT if r and (name == r or name.startswith(r + "."))]
    return max(candidates, key=len, default="")


def imported(path: Path) -> Iterator[str]:
    """Our own modules that a file imports anywhere, also inside functions and for type checkers alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}, line {node.lineno}: imports are absolute"
            base = node.module or ""
            # `from mask2former.ops import library` names a module, `from mask2former.ops import f` a function of one.
            names = [full if _is_module(full := f"{base}.{alias.name}") else base for alias in node.names]
        else:
            continue
        yield from (n.removeprefix("mask2former").lstrip(".") for n in names if n.split(".")[0] == "mask2former")


def _is_module(name: str) -> bool:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_go_down_only(path: Path) -> None:
    name = module_name(path)
    own = room(name)
    assert name == "" or own, f"{name} is a new room: say in MAY_IMPORT what it may import"
    for other in imported(path):
        assert room(other) in MAY_IMPORT[own] | {own}, f"{name} may not import mask2former.{other}"


@pytest.mark.parametrize("own", MAY_IMPORT)
def test_every_allowance_is_used(own: str) -> None:
    members = [path for path in MODULES if room(module_name(path)) == own]
    used = {room(other) for path in members for other in imported(path)}
    assert members, f"MAY_IMPORT has {own!r}, but there is no such room"
    assert not MAY_IMPORT[own] - used, f"{own} imports nothing from these: take them out of MAY_IMPORT"


def test_there_is_no_circle() -> None:
    """Neither of rooms, nor of modules inside one; imports in functions and for type checkers count too."""
    TopologicalSorter(MAY_IMPORT).prepare()
    TopologicalSorter({module_name(path): set(imported(path)) for path in MODULES}).prepare()


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_only_from_config_sees_the_configuration(path: Path) -> None:
    name = module_name(path)
    if name.startswith(SEES_CONFIG):
        return
    tree = ast.parse(path.read_text())
    allowed = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and ("from_config" in node.name or _takes_cfg(node))
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in ("cfg", "MetadataCatalog") and node not in allowed:
            pytest.fail(f"{name}, line {node.lineno}: {node.id} belongs in from_config")


def _takes_cfg(node: ast.FunctionDef) -> bool:
    """A private helper of ``from_config``, or Detectron2's ``build_x(cfg)`` for what a registry holds."""
    arguments = [a.arg for a in node.args.args]
    builds = "build_" in node.name and arguments == ["cfg", "input_shape"]  # a backbone
    return builds or (node.name.startswith(("_", "build_")) and arguments == ["cfg"])


OPENERS = {"Image.open", "PIL.Image.open", "cv2.imread", "cv2.imdecode", "detection_utils.read_image"}
OUTSIDE = [
    path
    for folder in ("mask2former", "mask2former_cli", "mask2former_shapes", "tools", "demo", "datasets")
    for path in sorted((PACKAGE.parent / folder).rglob("*.py"))
    if "mask2former/data/images" not in path.as_posix() and path.name != "plain_mapper.py"  # Detectron2's, to compare
]


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: path.relative_to(PACKAGE.parent).as_posix())
def test_image_files_are_opened_by_the_reader_alone(path: Path) -> None:
    """Elsewhere only with the list of formats that are meant: Pillow starts Ghostscript for files that look like it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in OPENERS:
            formats = any(keyword.arg == "formats" for keyword in node.keywords)
            assert formats, f"{path}, line {node.lineno}: use mask2former.data.images.read"


def test_the_reader_names_the_formats_too() -> None:
    calls = [
        node
        for path in (PACKAGE / "data" / "images").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Image.open"
    ]
    assert calls and all(any(keyword.arg == "formats" for keyword in call.keywords) for call in calls)
