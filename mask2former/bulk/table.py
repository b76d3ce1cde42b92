"""Write the results of a shard as a table of Parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mask2former.files import whole_path


def write_table(file: Path, content: dict[str, Any]) -> None:
    """Write a row for each image; see :mod:`mask2former.bulk.shard`.

    Columns: ``image_id``, ``file_name``, ``height``, ``width``, ``skipped`` (the reason, or null) and ``segments``, a
    list of ``category_id``, ``score`` (null where the task has none), ``bbox`` [x, y, width, height], ``area`` in
    pixels, ``isthing`` (null likewise) and ``counts``, the run lengths in COCO's compressed form. The categories are in
    the file's metadata, as JSON.
    """
    import pyarrow as pa
    from pyarrow import parquet

    segment = pa.struct(
        [
            *[("category_id", pa.int64()), ("score", pa.float64()), ("bbox", pa.list_(pa.float64()))],
            *[("area", pa.int64()), ("isthing", pa.bool_()), ("counts", pa.string())],
        ]
    )
    schema = pa.schema(
        [
            *[("image_id", pa.int64()), ("file_name", pa.string()), ("height", pa.int64()), ("width", pa.int64())],
            *[("skipped", pa.string()), ("segments", pa.list_(segment))],
        ],
        metadata={"categories": json.dumps(content["categories"])},
    )
    segments: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
    for one in content["annotations"]:
        thing = one.get("isthing")
        row = {"category_id": one["category_id"], "score": one.get("score"), "bbox": one["bbox"], "area": one["area"]}
        row |= {"isthing": None if thing is None else bool(thing), "counts": one["segmentation"]["counts"]}
        segments[one["image_id"]].append(row)
    rows = [
        {
            **{"image_id": image["id"], "file_name": image["file_name"], "height": image["height"]},
            **{"width": image["width"], "skipped": None, "segments": segments[image["id"]]},
        }
        for image in content["images"]
    ]
    rows += [
        {"image_id": image["id"], "file_name": image["file_name"], "skipped": image["reason"], "segments": []}
        for image in content["skipped"]
    ]
    with whole_path(file) as temporary:
        parquet.write_table(pa.Table.from_pylist(rows, schema=schema), str(temporary))
