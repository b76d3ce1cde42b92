"""Published names and paths: each is imported as users and forks do, and is what it says."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys

import pytest
from detectron2.config import CfgNode, configurable, get_cfg
from detectron2.data import transforms as T
from detectron2.evaluation import COCOEvaluator
from detectron2.modeling import META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY, build_model
from small_models import configuration
from torch import nn

import mask2former
from mask2former import add_maskformer2_config
from mask2former.data import Mapper, register_all
from mask2former.modeling import TRANSFORMER_DECODER_REGISTRY, MaskFormer, MultiScaleMaskedTransformerDecoder

PUBLISHED = [
    "MaskFormer",
    "add_maskformer2_config",
    "COCOInstanceNewBaselineDatasetMapper",
    "COCOPanopticNewBaselineDatasetMapper",
    "MaskFormerInstanceDatasetMapper",
    "MaskFormerPanopticDatasetMapper",
    "MaskFormerSemanticDatasetMapper",
    "SemanticSegmentorWithTTA",
    "InstanceSegEvaluator",
]
OPS = "modeling.pixel_decoder.ops"
PATHS = {
    "config": ["add_maskformer2_config"],
    "maskformer_model": ["MaskFormer"],
    "modeling.transformer_decoder.mask2former_transformer_decoder": ["MultiScaleMaskedTransformerDecoder"],
    "modeling.transformer_decoder.maskformer_transformer_decoder": [
        "StandardTransformerDecoder",
        "TRANSFORMER_DECODER_REGISTRY",
    ],
    "modeling.transformer_decoder": ["MultiScaleMaskedTransformerDecoder", "StandardTransformerDecoder"],
    "modeling.transformer_decoder.position_encoding": ["PositionEmbeddingSine"],
    "modeling.pixel_decoder.msdeformattn": ["MSDeformAttnPixelDecoder"],
    "modeling.pixel_decoder.fpn": ["BasePixelDecoder", "TransformerEncoderPixelDecoder"],
    f"{OPS}.modules": ["MSDeformAttn"],
    f"{OPS}.modules.ms_deform_attn": ["MSDeformAttn"],
    f"{OPS}.functions": ["MSDeformAttnFunction", "ms_deform_attn_core_pytorch"],
    f"{OPS}.functions.ms_deform_attn_func": ["MSDeformAttnFunction", "ms_deform_attn_core_pytorch"],
    "modeling.backbone.swin": ["D2SwinTransformer"],
    "modeling.meta_arch.mask_former_head": ["MaskFormerHead"],
    "modeling.meta_arch.per_pixel_baseline": ["PerPixelBaselineHead", "PerPixelBaselinePlusHead"],
    "modeling.criterion": ["SetCriterion"],
    "modeling.matcher": ["HungarianMatcher"],
    "modeling": ["D2SwinTransformer", "MaskFormerHead"],
    "data.dataset_mappers.mask_former_semantic_dataset_mapper": ["MaskFormerSemanticDatasetMapper"],
    "data.dataset_mappers.mask_former_panoptic_dataset_mapper": ["MaskFormerPanopticDatasetMapper"],
    "data.dataset_mappers.mask_former_instance_dataset_mapper": ["MaskFormerInstanceDatasetMapper"],
    "data.dataset_mappers.coco_panoptic_new_baseline_dataset_mapper": ["COCOPanopticNewBaselineDatasetMapper"],
    "data.dataset_mappers.coco_instance_new_baseline_dataset_mapper": ["COCOInstanceNewBaselineDatasetMapper"],
    "data.datasets.register_ade20k_full": [],
    "data.datasets.register_ade20k_instance": [],
    "data.datasets.register_ade20k_panoptic": [],
    "data.datasets.register_coco_panoptic_annos_semseg": [],
    "data.datasets.register_coco_stuff_10k": [],
    "data.datasets.register_mapillary_vistas": [],
    "data.datasets.register_mapillary_vistas_panoptic": [],
    "test_time_augmentation": ["SemanticSegmentorWithTTA"],
    "evaluation.instance_evaluation": ["InstanceSegEvaluator"],
}
MAPPERS = {
    "MaskFormerSemanticDatasetMapper": "mask_former_semantic",
    "MaskFormerPanopticDatasetMapper": "mask_former_panoptic",
    "MaskFormerInstanceDatasetMapper": "mask_former_instance",
    "COCOPanopticNewBaselineDatasetMapper": "coco_panoptic_lsj",
    "COCOInstanceNewBaselineDatasetMapper": "coco_instance_lsj",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_names_are_there(name: str) -> None:
    assert callable(getattr(mask2former, name)) and name in mask2former.__all__


@pytest.mark.parametrize("path", PATHS)
def test_published_paths_are_there(path: str) -> None:
    module = importlib.import_module(f"mask2former.{path}")
    for name in PATHS[path]:
        found = getattr(module, name)
        if name not in ("SemanticSegmentorWithTTA", "TRANSFORMER_DECODER_REGISTRY"):
            assert found.__name__ == name
        if isinstance(found, type):
            assert pickle.loads(pickle.dumps(found)) is found


def test_each_path_works_in_a_fresh_process_and_unknown_ones_do_not() -> None:
    lines = ["import detectron2", "import sys", "import mask2former"]
    lines += [f"assert 'mask2former.{path}' not in sys.modules" for path in PATHS if "register_" in path]
    lines += [
        f"from mask2former.{path} import {', '.join(names)}" if names else f"import mask2former.{path}"
        for path, names in PATHS.items()
    ]
    lines += ["import mask2former.modeling.pixel_decoder.ops.modules as modules; print(modules.MSDeformAttn.__name__)"]
    lines += ["try:", "    import mask2former.nonsense", "except ModuleNotFoundError as error:", "    print(error)"]
    lines += ["try:", "    from mask2former.maskformer_model import Nonsense", "except ImportError as error:"]
    lines += ["    print(error)"]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.splitlines()
    assert first == "MSDeformAttn" and "mask2former.nonsense" in second and "'Nonsense'" in third


def mapper_config() -> CfgNode:
    cfg = configuration()
    cfg.INPUT.IMAGE_SIZE, cfg.INPUT.DATASET_MAPPER_NAME = 64, "not read by them"
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 20
    cfg.INPUT.SIZE_DIVISIBILITY, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = 32, 77
    return cfg


@pytest.mark.parametrize("name", MAPPERS)
@pytest.mark.parametrize("is_train", [True, False])
def test_mappers_are_built_as_published(name: str, is_train: bool) -> None:
    cfg = mapper_config()
    mapper = getattr(mask2former, name)(cfg, is_train=is_train)
    cfg.INPUT.DATASET_MAPPER_NAME = MAPPERS[name]
    usual = Mapper(cfg, is_train)
    assert [type(x) for x in mapper.tfm_gens] == [type(x) for x in usual.augmentations.augs]
    assert (mapper.read_targets is None) == (usual.read_targets is None) == (not is_train)
    assert getattr(mapper.read_targets, "func", mapper.read_targets) is getattr(
        usual.read_targets, "func", usual.read_targets
    )
    assert (mapper.is_train, mapper.img_format, mapper.size_divisibility) == (is_train, cfg.INPUT.FORMAT, 32)
    assert mapper.ignore_label == (77 if "Semantic" in name or name.startswith("MaskFormerPan") else None)
    assert getattr(mask2former, name)(cfg, is_train).is_train is is_train


def test_a_mapper_may_be_subclassed(datasets: object) -> None:
    from detectron2.data import DatasetCatalog

    class Mine(mask2former.COCOPanopticNewBaselineDatasetMapper):
        @classmethod
        def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
            arguments = super().from_config(cfg, is_train)
            arguments["augmentations"] = [T.Resize((48, 40)), T.RandomBrightness(0.5, 0.6)]
            return arguments

        def __call__(self, dataset_dict: dict) -> dict:
            result = super().__call__(dataset_dict)
            result["mine"] = self.img_format
            return result

    cfg = mapper_config()
    register_all(str(datasets))
    record = DatasetCatalog.get("quickstart_train_panoptic")[1]
    usual = Mapper(cfg, is_train=False)(record)["image"]
    mapped = Mine(cfg, True)(record)
    assert mapped["mine"] == cfg.INPUT.FORMAT and mapped["image"].shape == (3, 48, 40)
    assert mapped["image"].float().mean() < 0.65 * usual.float().mean()
    masks = mapped["instances"].gt_masks
    assert masks.shape == (len(record["segments_info"]), 48, 40) and (masks.sum(0) == 1).all()
    mapper = mask2former.MaskFormerPanopticDatasetMapper(cfg, True)
    mapper.tfm_gens = []
    labels = mapper(record)["sem_seg"]
    assert labels.shape == (64, 64) and set(labels.unique().tolist()) == {
        segment["category_id"] for segment in record["segments_info"]
    }
    register_all()


def test_maskformer_may_be_subclassed() -> None:
    @META_ARCH_REGISTRY.register()
    class MaskFormerOfMine(MaskFormer):
        @configurable
        def __init__(self, *, extra: int, **arguments: object) -> None:
            super().__init__(**arguments)
            self.extra = nn.Linear(extra, extra)

        @classmethod
        def from_config(cls, cfg: CfgNode) -> dict:
            return {**super().from_config(cfg), "extra": 3}

    cfg = configuration()
    cfg.MODEL.META_ARCHITECTURE = "MaskFormerOfMine"
    model = build_model(cfg)
    assert isinstance(model, mask2former.MaskFormer) and model.extra.in_features == 3


def test_decoders_of_ones_own_are_found_in_either_registry() -> None:
    class Own(MultiScaleMaskedTransformerDecoder):
        pass

    class Older(MultiScaleMaskedTransformerDecoder):
        pass

    TRANSFORMER_DECODER_REGISTRY.register(Own)
    SEM_SEG_HEADS_REGISTRY.register(Older)
    cfg = configuration()
    for decoder in (Own, Older):
        cfg.MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME = decoder.__name__
        assert type(build_model(cfg).sem_seg_head.predictor) is decoder
    cfg.MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME = "None"
    with pytest.raises(
        KeyError, match=r"TRANSFORMER_DECODER_NAME is 'None'; choose one of .*StandardTransformerDecoder"
    ):
        build_model(cfg)


def test_keys_may_be_added_in_any_order_and_twice() -> None:
    once = get_cfg()
    add_maskformer2_config(once)
    cfg = get_cfg()
    cfg.MODEL.RESNETS.RES5_MULTI_GRID = [1, 2, 2]  # as another project's function does, before
    add_maskformer2_config(cfg)
    cfg.MODEL.MASK_FORMER.TEST.PANOPTIC_ON = True
    cfg.INPUT.IMAGE_SIZE = 640
    add_maskformer2_config(cfg)
    assert cfg.MODEL.MASK_FORMER.TEST.PANOPTIC_ON and cfg.INPUT.IMAGE_SIZE == 640
    assert cfg.MODEL.RESNETS.RES5_MULTI_GRID == [1, 2, 2]
    cfg.MODEL.RESNETS.RES5_MULTI_GRID = [1, 2, 4]
    cfg.MODEL.MASK_FORMER.TEST.PANOPTIC_ON, cfg.INPUT.IMAGE_SIZE = False, 1024
    assert cfg == once
    cfg.MODEL.TIMM.ARGUMENTS.drop_path_rate = 0.2  # still open to new keys
    once.freeze()
    add_maskformer2_config(once)


def test_the_evaluator_takes_the_published_arguments(datasets: object) -> None:
    register_all(str(datasets))
    name = "quickstart_val_instance"
    for arguments in ({"output_dir": "x"}, {"tasks": ("segm",), "distributed": True, "output_dir": "x"}):
        evaluator = mask2former.InstanceSegEvaluator(name, **arguments)
        assert isinstance(evaluator, COCOEvaluator) and evaluator._output_dir == "x"
    assert mask2former.InstanceSegEvaluator(name, ("segm",), False, "y")._output_dir == "y"
    register_all()
