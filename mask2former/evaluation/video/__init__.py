"""Scores of tracks in videos."""

from mask2former.evaluation.video.evaluator import YTVISEvaluator
from mask2former.evaluation.video.score import score_tracks
from mask2former.evaluation.video.truth import VideoTruth, read_truth

__all__ = ["VideoTruth", "YTVISEvaluator", "read_truth", "score_tracks"]
