"""Checks before a run: report everything that would stop it, or spoil its scores, before the first iteration."""

from mask2former.preflight.preflight import check_run
from mask2former.preflight.problem import Problem

__all__ = ["Problem", "check_run"]
