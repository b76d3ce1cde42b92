"""Checks that list all faults of a data set at once; training stops at the first that it meets."""

from mask2former.data.checks.coco import check_instances, check_panoptic
from mask2former.data.checks.dataset import check_dataset
from mask2former.data.checks.report import Report

__all__ = ["Report", "check_dataset", "check_instances", "check_panoptic"]
