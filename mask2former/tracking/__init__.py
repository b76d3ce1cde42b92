"""Following objects through films, with the queries of any image model (MinVIS, arXiv 2208.02245, section 3)."""

from mask2former.tracking.outputs import TrackedOutputs, follow
from mask2former.tracking.tracker import FrameTracks, Tracker
from mask2former.tracking.tracks_file import TracksFile
from mask2former.tracking.windows import WindowLinker

__all__ = ["FrameTracks", "TrackedOutputs", "Tracker", "TracksFile", "WindowLinker", "follow"]
