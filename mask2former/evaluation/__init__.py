"""Evaluators by data set and task, and summaries of their scores."""

from mask2former.evaluation.build import build_evaluator
from mask2former.evaluation.scores import score_table, summarize

__all__ = ["build_evaluator", "score_table", "summarize"]
