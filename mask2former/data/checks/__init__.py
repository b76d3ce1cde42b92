"""Checks that list all faults of a data set at once; training stops at the first that it meets."""

from mask2former.data.checks.coco import check_instances, check_panoptic
from mask2former.data.checks.dataset import check_annotations, check_dataset
from mask2former.data.checks.report import Report
from mask2former.data.checks.videos import check_videos

__all__ = ["Report", "check_annotations", "check_dataset", "check_instances", "check_panoptic", "check_videos"]
