"""The command line: what can be asked, answered before anything heavy is imported.

This package imports Python's standard library alone, so that ``--help`` takes no time and ``mask2former doctor`` runs
where PyTorch or Detectron2 is missing. Each command has a module here that makes its parser, and a module of
``mask2former.cli`` that does the work, imported once the words have been understood.
"""

from mask2former_cli.commands import COMMANDS, run_command

__all__ = ["COMMANDS", "run_command"]
