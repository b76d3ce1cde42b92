"""Predict on sets of images of any size: in shards, on one machine or a cluster, going on where it was stopped."""

from mask2former.bulk.engines import predict_set
from mask2former.bulk.shard import Settings
from mask2former.bulk.sources import Source, find_sources

__all__ = ["Settings", "Source", "find_sources", "predict_set"]
