"""Classes written beside weights are the same when read where the data set is not registered."""

import json

import pytest
from detectron2.data import MetadataCatalog

from mask2former.data.datasets.metadata_file import read_metadata, write_metadata


@pytest.fixture
def name():
    name = "classes_in_a_file"
    yield name
    MetadataCatalog.pop(name, None)


def test_facts_survive_and_paths_stay_behind(name, tmp_path):
    ids = {7: 0, 300: 1}
    written = MetadataCatalog.get(name).set(
        thing_classes=["cat", "Käfer"],
        thing_colors=[(1, 2, 3), (4, 5, 6)],
        thing_dataset_id_to_contiguous_id=ids,
        evaluator_type="coco",
        json_file="/private/annotations.json",
    )
    write_metadata(name, tmp_path / "metadata.json")
    MetadataCatalog.pop(name)

    read = read_metadata(tmp_path / "metadata.json")

    assert read.name == name
    assert read.thing_classes == written.thing_classes
    assert [tuple(colour) for colour in read.thing_colors] == written.thing_colors
    assert read.thing_dataset_id_to_contiguous_id == ids
    assert not hasattr(read, "json_file")
    assert name not in MetadataCatalog


def test_a_registered_data_set_of_the_same_name_stays_as_it_is(name, tmp_path):
    file = tmp_path / "metadata.json"
    MetadataCatalog.get(name).set(thing_classes=["cat"], json_file="here.json")
    file.write_text(json.dumps({"name": name, "thing_classes": ["dog"]}))
    assert read_metadata(file).thing_classes == ["dog"]
    assert MetadataCatalog.get(name).thing_classes == ["cat"]


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[]",
        "{}",
        '{"name": 3}',
        '{"name": "a", "json_file": "b"}',
        '{"name": "a", "thing_dataset_id_to_contiguous_id": {"x": 1}}',
        '{"name": "a", "thing_dataset_id_to_contiguous_id": [1]}',
    ],
)
def test_other_files_are_refused_by_name(tmp_path, text):
    file = tmp_path / "metadata.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"metadata\.json"):
        read_metadata(file)


WRONG = {
    "thing_classes": ["cat", {"a": 1}, [1], ["a", None], None],
    "stuff_classes": [3],
    "thing_colors": [[[1, 2]], [[1, 2, 300]], [["1", 2, 3]], [7], "red"],
    "stuff_colors": [[[0.5, 0.5, 0.5]]],
    "thing_dataset_id_to_contiguous_id": [{"1": "0"}, {"1": -1}, {"1": True}, {"1": None}, {"1.5": 0}, {"9" * 5000: 0}],
    "stuff_dataset_id_to_contiguous_id": [[1], "1"],
    "ignore_label": ["255", 2.5, None, True],
    "label_divisor": [0, "1000"],
    "evaluator_type": [3, ["coco"]],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
def test_values_of_other_types_are_refused_by_file_and_key(tmp_path, key, value):
    file = tmp_path / "metadata.json"
    file.write_text(json.dumps({"name": "a", key: value}))
    with pytest.raises(ValueError, match=rf"metadata\.json: '{key}' has to be "):
        read_metadata(file)
