"""Choose the evaluators of a data set by its ``evaluator_type`` and the tasks that are on."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import (
    CityscapesInstanceEvaluator,
    CityscapesSemSegEvaluator,
    DatasetEvaluator,
    DatasetEvaluators,
)

from mask2former.evaluation.classification import ClassificationEvaluator
from mask2former.evaluation.connected_components_pq import SemanticPanopticEvaluator
from mask2former.evaluation.instance import InstanceEvaluator
from mask2former.evaluation.panoptic import PanopticEvaluator
from mask2former.evaluation.semantic import SemanticEvaluator
from mask2former.evaluation.semantic_form import accepts_label_maps
from mask2former.evaluation.video import YTVISEvaluator

logger = logging.getLogger(__name__)

COCO_DETECTIONS = 100  # predictions in an image that COCO's average precision counts


@dataclass(frozen=True)
class Entry:
    """The conditions and the constructor of one evaluator.

    Attributes:
        switch: key of ``MODEL.MASK_FORMER.TEST`` that must be true; "": none.
        build: (cfg, data set name, output folder) -> evaluator.
        lacks: data set name -> what the ground truth lacks for this evaluator; "" if nothing.
        wish: key of ``TEST`` that must be true too; "" for none.
    """

    switch: str
    build: Callable[[CfgNode, str, str], DatasetEvaluator]
    lacks: Callable[[str], str] = lambda name: ""
    wish: str = ""


class Evaluators(DatasetEvaluators):
    """Several evaluators as one.

    Attributes:
        members: the evaluators, in order.
    """

    def __init__(self, members: Sequence[DatasetEvaluator]) -> None:
        super().__init__(members)
        self.members = tuple(members)

    @property
    def accepts_label_maps(self) -> bool:
        """True if all members accept label maps: see :mod:`mask2former.evaluation.semantic_form`."""
        return all(accepts_label_maps(one) for one in self.members)


def _metadata_lacks(key: str) -> Callable[[str], str]:
    return lambda name: "" if MetadataCatalog.get(name).get(key) else f"metadata `{key}`"


def _sem_seg_files_lack(name: str) -> str:
    records = DatasetCatalog.get(name)
    without = sum("sem_seg_file_name" not in record for record in records)
    if not records or without:  # Detectron2's evaluator fails over a single one
        return f"`sem_seg_file_name` for {without} of its {len(records)} images"
    return ""


def _build_instance(cfg: CfgNode, name: str, folder: str) -> DatasetEvaluator:
    limit = cfg.TEST.DETECTIONS_PER_IMAGE
    if limit > COCO_DETECTIONS:
        logger.info("AP on %s counts %d detections an image (TEST.DETECTIONS_PER_IMAGE).", name, limit)
    boundary = cfg.TEST.BOUNDARY_AP
    return InstanceEvaluator(name, folder, max_dets_per_image=max(limit, COCO_DETECTIONS), boundary=boundary)


PANOPTIC = Entry(
    "PANOPTIC_ON", lambda cfg, name, folder: PanopticEvaluator(name, folder), _metadata_lacks("panoptic_json")
)
PANOPTIC_OF_SEMANTIC = Entry(
    "SEMANTIC_ON",
    # A folder of its own, because it writes a file of the same name as PANOPTIC.
    lambda cfg, name, folder: SemanticPanopticEvaluator(name, str(Path(folder, "semantic"))),
    _metadata_lacks("panoptic_json"),
    wish="SEMANTIC_PQ",
)
INSTANCE = Entry("INSTANCE_ON", _build_instance)
INSTANCE_OF_PANOPTIC = Entry("INSTANCE_ON", _build_instance, _metadata_lacks("json_file"))
SEMANTIC = Entry(
    "SEMANTIC_ON",
    lambda cfg, name, folder: SemanticEvaluator(name, output_dir=folder, boundary_iou=cfg.TEST.BOUNDARY_IOU),
    _sem_seg_files_lack,
)
CITYSCAPES_INSTANCE = Entry("INSTANCE_ON", lambda cfg, name, folder: CityscapesInstanceEvaluator(name))
CITYSCAPES_SEMANTIC = Entry("SEMANTIC_ON", lambda cfg, name, folder: CityscapesSemSegEvaluator(name))

CLASSES = Entry("", lambda cfg, name, folder: ClassificationEvaluator())
VIDEO = Entry("INSTANCE_ON", lambda cfg, name, folder: YTVISEvaluator(name, output_dir=folder))

EVALUATORS: dict[str, tuple[Entry, ...]] = {
    "coco": (INSTANCE,),
    "sem_seg": (SEMANTIC,),
    "coco_panoptic_seg": (PANOPTIC, INSTANCE_OF_PANOPTIC, SEMANTIC, PANOPTIC_OF_SEMANTIC),
    "ade20k_panoptic_seg": (PANOPTIC, INSTANCE_OF_PANOPTIC, SEMANTIC, PANOPTIC_OF_SEMANTIC),
    "mapillary_vistas_panoptic_seg": (PANOPTIC, INSTANCE_OF_PANOPTIC, SEMANTIC, PANOPTIC_OF_SEMANTIC),
    "ytvis": (VIDEO,),
    "image_classes": (CLASSES,),
    "cityscapes_instance": (CITYSCAPES_INSTANCE,),
    "cityscapes_sem_seg": (CITYSCAPES_SEMANTIC,),
    "cityscapes_panoptic_seg": (PANOPTIC, CITYSCAPES_INSTANCE, CITYSCAPES_SEMANTIC, PANOPTIC_OF_SEMANTIC),
}


def build_evaluator(cfg: CfgNode, dataset_name: str, folder: str = "inference") -> DatasetEvaluator:
    """Build the evaluators of a data set for all tasks that ``cfg`` switches on.

    A task whose ground truth the data set lacks is left out, with a logged warning. Files go to ``folder`` in
    ``OUTPUT_DIR``, or to a subfolder for each data set if ``DATASETS.TEST`` has several.

    Raises:
        ValueError: the data set's type is unknown, or there is nothing to score.
    """
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type")
    if kind not in EVALUATORS:
        raise ValueError(
            f"Data set {dataset_name}: its metadata has evaluator_type {kind!r}; choose one of {', '.join(EVALUATORS)}."
        )
    path = Path(cfg.OUTPUT_DIR, folder, *([dataset_name] if len(cfg.DATASETS.TEST) > 1 else []))
    evaluators = []
    for entry in EVALUATORS[kind]:
        if (entry.switch and not cfg.MODEL.MASK_FORMER.TEST[entry.switch]) or (entry.wish and not cfg.TEST[entry.wish]):
            continue
        if missing := entry.lacks(dataset_name):
            logger.warning("%s is on, but %s lacks %s, so this is not scored.", entry.switch, dataset_name, missing)
        else:
            evaluators.append(entry.build(cfg, dataset_name, str(path)))
    if not evaluators:
        switches = ", ".join(entry.switch for entry in EVALUATORS[kind] if not entry.wish)
        raise ValueError(
            f"Data set {dataset_name} (evaluator_type {kind}) has nothing to score: set one of "
            f"MODEL.MASK_FORMER.TEST.{{{switches}}} for which it has ground truth."
        )
    return evaluators[0] if len(evaluators) == 1 else Evaluators(evaluators)


_rehearsed: set[tuple[object, ...]] = set()  # what the checks before a run have tried, until the training asks


def note_rehearsed(cfg: CfgNode, name: str) -> None:
    """Note that the evaluators of ``cfg`` were tried on a data set, so that the training need not do it again."""
    _rehearsed.add(_key(cfg, name))


def was_rehearsed(cfg: CfgNode, name: str) -> bool:
    """Tell whether that was noted, for the same settings and registration, since this was last asked."""
    key = _key(cfg, name)
    noted = key in _rehearsed
    _rehearsed.discard(key)
    return noted


def _key(cfg: CfgNode, name: str) -> tuple[object, ...]:
    loader = DatasetCatalog[name] if name in DatasetCatalog else None  # noqa: SIM401 (its `get` calls the loader)
    return (name, loader, cfg.TEST.dump(), cfg.MODEL.MASK_FORMER.TEST.dump(), cfg.DATASETS.TEST)
