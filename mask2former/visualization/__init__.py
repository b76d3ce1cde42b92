"""Draw results and ground truth over images.

Everything that can be drawn, of a model or of a data set, becomes a list of :class:`Region`, which one function paints.
Images are [H, W, 3] uint8, RGB. Small ones are enlarged by a whole factor, so that labels can be read.
"""

from mask2former.visualization.comparison import (
    contact_sheet,
    draw_ground_truth,
    draw_result,
    save_comparisons,
    side_by_side,
)
from mask2former.visualization.legend import add_legend
from mask2former.visualization.painting import MODES, draw_regions, enlargement
from mask2former.visualization.regions import (
    ANNOTATIONS,
    INSTANCE_THRESHOLD,
    RESULTS,
    ImageArray,
    Region,
    choose_task,
    class_map_regions,
    instance_regions,
    make_region,
    panoptic_regions,
    result_of,
)
from mask2former.visualization.save_image import free_file, save_image

__all__ = [
    "ANNOTATIONS",
    "INSTANCE_THRESHOLD",
    "MODES",
    "RESULTS",
    "ImageArray",
    "Region",
    "add_legend",
    "choose_task",
    "class_map_regions",
    "contact_sheet",
    "draw_ground_truth",
    "draw_regions",
    "draw_result",
    "enlargement",
    "free_file",
    "instance_regions",
    "make_region",
    "panoptic_regions",
    "result_of",
    "save_comparisons",
    "save_image",
    "side_by_side",
]
