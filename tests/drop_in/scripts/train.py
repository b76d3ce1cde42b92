"""A training script as a user of the published system has it: Detectron2 first, its trainer, published names."""

import copy
import itertools
import json
import os
import sys

import detectron2.utils.comm as comm
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_train_loader
from detectron2.data.datasets import register_coco_instances
from detectron2.engine import DefaultTrainer, default_argument_parser, default_setup, launch
from detectron2.evaluation import COCOEvaluator, COCOPanopticEvaluator, DatasetEvaluators, SemSegEvaluator
from detectron2.projects.deeplab import add_deeplab_config, build_lr_scheduler

from mask2former import (
    COCOInstanceNewBaselineDatasetMapper,
    COCOPanopticNewBaselineDatasetMapper,
    InstanceSegEvaluator,
    MaskFormerInstanceDatasetMapper,
    MaskFormerPanopticDatasetMapper,
    MaskFormerSemanticDatasetMapper,
    SemanticSegmentorWithTTA,
    add_maskformer2_config,
)

MAPPERS = {
    "mask_former_semantic": MaskFormerSemanticDatasetMapper,
    "mask_former_panoptic": MaskFormerPanopticDatasetMapper,
    "mask_former_instance": MaskFormerInstanceDatasetMapper,
    "coco_instance_lsj": COCOInstanceNewBaselineDatasetMapper,
    "coco_panoptic_lsj": COCOPanopticNewBaselineDatasetMapper,
}


class Trainer(DefaultTrainer):
    @classmethod
    def build_evaluator(cls, cfg, dataset_name, output_folder=None):
        if output_folder is None:
            output_folder = os.path.join(cfg.OUTPUT_DIR, "inference")
        kind = MetadataCatalog.get(dataset_name).evaluator_type
        evaluators = []
        if kind in ("sem_seg", "coco_panoptic_seg") and cfg.MODEL.MASK_FORMER.TEST.SEMANTIC_ON:
            evaluators.append(SemSegEvaluator(dataset_name, distributed=True, output_dir=output_folder))
        if kind == "coco_panoptic_seg" and cfg.MODEL.MASK_FORMER.TEST.PANOPTIC_ON:
            evaluators.append(COCOPanopticEvaluator(dataset_name, output_folder))
        if kind == "coco_panoptic_seg" and cfg.MODEL.MASK_FORMER.TEST.INSTANCE_ON:
            evaluators.append(InstanceSegEvaluator(dataset_name, output_dir=output_folder))
        if kind == "coco":
            evaluators.append(COCOEvaluator(dataset_name, output_dir=output_folder))
        return DatasetEvaluators(evaluators)

    @classmethod
    def build_train_loader(cls, cfg):
        mapper = MAPPERS[cfg.INPUT.DATASET_MAPPER_NAME](cfg, True)
        return build_detection_train_loader(cfg, mapper=mapper)

    @classmethod
    def build_optimizer(cls, cfg, model):
        groups = []
        for module_name, module in model.named_modules():
            for value in module.parameters(recurse=False):
                settings = {"lr": cfg.SOLVER.BASE_LR, "weight_decay": cfg.SOLVER.WEIGHT_DECAY}
                if "backbone" in module_name:
                    settings["lr"] *= cfg.SOLVER.BACKBONE_MULTIPLIER
                if isinstance(module, torch.nn.Embedding):
                    settings["weight_decay"] = cfg.SOLVER.WEIGHT_DECAY_EMBED
                groups.append({"params": [value], **settings})
        return torch.optim.AdamW(groups, cfg.SOLVER.BASE_LR)

    @classmethod
    def build_lr_scheduler(cls, cfg, optimizer):
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def test_with_TTA(cls, cfg, model):
        model = SemanticSegmentorWithTTA(cfg, model)
        folder = os.path.join(cfg.OUTPUT_DIR, "inference_TTA")
        evaluators = [cls.build_evaluator(cfg, name, output_folder=folder) for name in cfg.DATASETS.TEST]
        return cls.test(cfg, model, evaluators)


def register_own_data(root):
    """Instances as Detectron2's tutorial has it, and labels of pixels by a function."""
    for split in ("train", "val"):
        images = os.path.join(root, "quickstart/images", split)
        annotations = os.path.join(root, f"quickstart/annotations/instances_{split}.json")
        register_coco_instances(f"shapes_{split}", {}, annotations, images)

        def records(split=split, images=images):
            return [
                {
                    "file_name": os.path.join(images, name),
                    "sem_seg_file_name": os.path.join(root, "quickstart/semantic", split, name),
                    "image_id": number,
                    "height": 64,
                    "width": 64,
                }
                for number, name in enumerate(sorted(os.listdir(images)))
            ]

        DatasetCatalog.register(f"pixels_{split}", records)
        MetadataCatalog.get(f"pixels_{split}").set(
            stuff_classes=[f"class {number}" for number in range(12)], ignore_label=255, evaluator_type="sem_seg"
        )


def setup(args):
    cfg = get_cfg()
    add_deeplab_config(cfg)
    add_maskformer2_config(cfg)
    cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    cfg.freeze()
    default_setup(cfg, args)
    return cfg


def main(args):
    cfg = setup(args)
    register_own_data(os.environ["DETECTRON2_DATASETS"])
    if args.eval_only:
        model = Trainer.build_model(cfg)
        DetectionCheckpointer(model, save_dir=cfg.OUTPUT_DIR).resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
        results = Trainer.test(cfg, model)
        if cfg.TEST.AUG.ENABLED:
            results.update({f"{task}_TTA": scores for task, scores in Trainer.test_with_TTA(cfg, model).items()})
        if comm.is_main_process():
            with open(os.path.join(cfg.OUTPUT_DIR, "scores.json"), "w") as file:
                json.dump(results, file)
        return results
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


if __name__ == "__main__":
    args = default_argument_parser().parse_args()
    # One run for each "++" behind options, in one process: importing is what takes the time here.
    runs = [list(run) for dashes, run in itertools.groupby(args.opts, lambda option: option == "++") if not dashes]
    for options in runs or [[]]:
        one = copy.copy(args)
        one.opts = options
        launch(main, one.num_gpus, num_machines=one.num_machines, machine_rank=one.machine_rank, args=(one,))
        for name in ("shapes", "pixels"):
            for split in ("train", "val"):
                DatasetCatalog.remove(f"{name}_{split}")
                MetadataCatalog.remove(f"{name}_{split}")
    sys.exit(0)
