"""Post-processing settings, read from a configuration."""

from __future__ import annotations

import dataclasses

import pytest
from detectron2.data import MetadataCatalog

from mask2former.config import load_config
from mask2former.modeling.postprocess import MaskwiseThresholds, PostProcessing, TwoArgmaxThresholds

TEST = "MODEL.MASK_FORMER.TEST."


@pytest.fixture
def dataset() -> str:
    """The name of a data set whose things are the classes 1 and 3."""
    name = "settings_of_post_processing"
    MetadataCatalog.get(name).set(thing_dataset_id_to_contiguous_id={7: 1, 9: 3})
    yield name
    MetadataCatalog.remove(name)


def read(*options: str) -> PostProcessing:
    return PostProcessing.from_config(load_config(None, ["DATASETS.TRAIN", "()", "DATASETS.TEST", "()", *options]))


def test_every_key_is_read(dataset: str) -> None:
    options = ["SEMANTIC_ON", "False", "INSTANCE_ON", "True", "PANOPTIC_ON", "True", "PANOPTIC_RULE", "Own"]
    options += ["OBJECT_MASK_THRESHOLD", "0.25", "OVERLAP_THRESHOLD", "0.75"]
    keys = [TEST + word if index % 2 == 0 else word for index, word in enumerate(options)]
    own = {"PIXEL_CONFIDENCE_THRESHOLD": 0.1, "CLASS_THRESHOLD_THING": 0.2, "CLASS_THRESHOLD_STUFF": 0.3}
    own |= {"REORDER_CLASS_WEIGHT": 2.0, "REORDER_MASK_WEIGHT": 3.0}
    areas = {"CLASS_THRESHOLD": 0.6, "PIXEL_CONFIDENCE_THRESHOLD": 0.3, "THING_AREA_LIMIT": 5, "STUFF_AREA_LIMIT": 6}
    areas |= {"AREA_SIDE": 641}
    keys += [word for key, value in own.items() for word in (f"MODEL.KMAX_DEEPLAB.TEST.{key}", str(value))]
    keys += [word for key, value in areas.items() for word in (f"MODEL.MAX_DEEPLAB.TEST.{key}", str(value))]
    found = read(*keys, "TEST.DETECTIONS_PER_IMAGE", "17", "DATASETS.TRAIN", f"('{dataset}',)")
    assert found == PostProcessing(
        semantic_on=False,
        panoptic_on=True,
        instance_on=True,
        things=frozenset({1, 3}),
        object_mask_threshold=0.25,
        overlap_threshold=0.75,
        resize_before_semantic=True,
        detections_per_image=17,
        panoptic_rule="Own",
        maskwise=MaskwiseThresholds(0.1, 0.2, 0.3, 2.0, 3.0),
        two_argmax=TwoArgmaxThresholds(0.6, 0.3, 5, 6, 641),
    )


@pytest.mark.parametrize("on", ["PANOPTIC_ON", "INSTANCE_ON", "SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE", None])
def test_masks_are_resized_first_where_objects_are_wanted(on: str | None, dataset: str) -> None:
    switches = ["PANOPTIC_ON", "INSTANCE_ON", "SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE"]
    options = [word for name in switches for word in (TEST + name, str(name == on))]
    assert read(*options, "DATASETS.TEST", f"('{dataset}',)").resize_before_semantic == (on is not None)


def test_things_may_come_from_the_tested_data_set(dataset: str) -> None:
    assert read("DATASETS.TEST", f"('{dataset}',)").things == {1, 3}
    assert read().things == frozenset()
    with pytest.raises(ValueError, match="PANOPTIC_ON needs to know which classes are things"):
        read(TEST + "PANOPTIC_ON", "True")


def test_settings_are_a_value() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PostProcessing().semantic_on = False  # type: ignore[misc]
