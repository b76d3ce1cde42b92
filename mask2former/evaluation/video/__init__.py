"""Scores of tracks in videos."""

from mask2former.evaluation.video.evaluator import YTVISEvaluator
from mask2former.evaluation.video.score import score_tracks
from mask2former.evaluation.video.switches import Followed, follow
from mask2former.evaluation.video.truth import ScoredTrack, VideoTruth, read_truth

__all__ = ["Followed", "ScoredTrack", "VideoTruth", "YTVISEvaluator", "follow", "read_truth", "score_tracks"]
