"""Import paths of the published package that this one lacks, in two tables.

``import mask2former.maskformer_model`` finds no such file here. A finder after Python's own creates the module when it
is imported, with the names of :data:`MODULES`. Modules of ours that lack a published name are listed in :data:`NAMES`.
`docs/migration.md` says what works beyond the import.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_ROOT = "mask2former."
_HEADS = "modeling.meta_arch"
_PIXEL = "modeling.pixel_decoder"
_DECODER = "modeling.transformer_decoder"
_MAPPERS = "data.dataset_mappers"
_ATTENTION = "drop_in.ms_deform_attn"
_OPS = {"MSDeformAttn": _ATTENTION}
_FUNCTIONS = {"MSDeformAttnFunction": _ATTENTION, "ms_deform_attn_core_pytorch": _ATTENTION}

# Published module -> its names, and the module here that has each. Modules without names are packages, or they
# registered data sets, which this package does when it is imported.
MODULES: dict[str, dict[str, str]] = {
    "maskformer_model": {"MaskFormer": _HEADS},
    "test_time_augmentation": {"SemanticSegmentorWithTTA": "evaluation.tta"},
    "evaluation.instance_evaluation": {"InstanceSegEvaluator": "evaluation.instance"},
    f"{_DECODER}.position_encoding": {"PositionEmbeddingSine": "drop_in.position_encoding"},
    f"{_PIXEL}.ops": {},
    f"{_PIXEL}.ops.modules": _OPS,
    f"{_PIXEL}.ops.modules.ms_deform_attn": _OPS,
    f"{_PIXEL}.ops.functions": _FUNCTIONS,
    f"{_PIXEL}.ops.functions.ms_deform_attn_func": _FUNCTIONS,
    f"{_MAPPERS}.mask_former_semantic_dataset_mapper": {"MaskFormerSemanticDatasetMapper": _MAPPERS},
    f"{_MAPPERS}.mask_former_panoptic_dataset_mapper": {"MaskFormerPanopticDatasetMapper": _MAPPERS},
    f"{_MAPPERS}.mask_former_instance_dataset_mapper": {"MaskFormerInstanceDatasetMapper": _MAPPERS},
    f"{_MAPPERS}.coco_panoptic_new_baseline_dataset_mapper": {"COCOPanopticNewBaselineDatasetMapper": _MAPPERS},
    f"{_MAPPERS}.coco_instance_new_baseline_dataset_mapper": {"COCOInstanceNewBaselineDatasetMapper": _MAPPERS},
    "data.datasets.register_ade20k_full": {},
    "data.datasets.register_ade20k_instance": {},
    "data.datasets.register_ade20k_panoptic": {},
    "data.datasets.register_coco_panoptic_annos_semseg": {},
    "data.datasets.register_coco_stuff_10k": {},
    "data.datasets.register_mapillary_vistas": {},
    "data.datasets.register_mapillary_vistas_panoptic": {},
}
# Module of ours -> published names that it lacks, and the module here that has each.
NAMES: dict[str, dict[str, str]] = {
    f"{_PIXEL}.fpn": {"TransformerEncoderPixelDecoder": f"{_PIXEL}.transformer_fpn"},
}


class _Published(MetaPathFinder, Loader):
    """Finder and loader of the modules of :data:`MODULES`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        name = fullname.removeprefix(_ROOT)
        if fullname == name or name not in MODULES:
            return None
        package = any(other.startswith(f"{name}.") for other in MODULES)
        return ModuleSpec(fullname, self, origin="published path", is_package=package)

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to Python."""

    def exec_module(self, module: ModuleType) -> None:
        names = MODULES[module.__name__.removeprefix(_ROOT)]
        module.__doc__ = f"Published path; has {', '.join(names) or 'no names'}. See docs/migration.md."
        _add(module, names)


def install() -> None:
    """Make published paths importable. Import the modules of :data:`NAMES` before; it is safe to repeat."""
    if not any(isinstance(finder, _Published) for finder in sys.meta_path):
        sys.meta_path.append(_Published())
    for module, names in NAMES.items():
        _add(sys.modules[_ROOT + module], names)


def _add(module: ModuleType, names: dict[str, str]) -> None:
    for name, place in names.items():
        setattr(module, name, getattr(importlib.import_module(_ROOT + place), name))
