"""Settings of how the objects of a clip are found."""

from __future__ import annotations

from dataclasses import dataclass

from detectron2.config import CfgNode

JOINT, WINDOWS, MINVIS, TRACKER = "joint", "windows", "minvis", "tracker"
WAYS = (JOINT, WINDOWS, MINVIS, TRACKER)


@dataclass(frozen=True)
class Windows:
    """Windows of a film that a clip model sees at once.

    Attributes:
        frames: frames of a window; more of them take more memory, and give more to compare.
        shared: frames that a window shares with the one before, on which their tracks are joined.

    Raises:
        ValueError: no frame is shared, or none is new.
    """

    frames: int = 12
    shared: int = 4

    def __post_init__(self) -> None:
        if not 0 < self.shared < self.frames:
            raise ValueError(
                f"Windows of {self.frames} frames that share {self.shared}: at least one frame has to be shared, and "
                "at least one new."
            )


@dataclass(frozen=True)
class ClipSettings:
    """How the objects of a clip are found.

    Attributes:
        way: "joint": all frames go through the network at once. "windows": those of a window do, and tracks are joined
            on the frames that windows share. "minvis": frame by frame, and each query is linked to
            one of the next frame (arXiv 2208.02245). "tracker": frame by frame, and objects begin and end.
        frames: frames that go through the network at a time, if not joint: those of a window.
        shared: frames that a window shares with the one before.
        tracks: tracks of a clip that are returned.
        overlap: share of the overlap of masks in what links a query, 0 to 1; the rest is the similarity of embeddings.
        start, similarity, memory, duplicates: of :class:`mask2former.tracking.Tracker`; the first and the last are of
            :class:`mask2former.tracking.WindowLinker` too.

    Raises:
        ValueError: another way, or a number out of its range.
    """

    way: str = JOINT
    frames: int = 1
    shared: int = 1
    tracks: int = 10
    overlap: float = 0.0
    start: float = 0.5
    similarity: float = 0.5
    memory: int = 150
    duplicates: float = 1.0

    def __post_init__(self) -> None:
        if self.way not in WAYS:
            raise ValueError(f"MODEL.MASK_FORMER.TEST.CLIP is {self.way!r}; it is one of {', '.join(WAYS)}.")
        if self.frames < 1:
            raise ValueError(f"MODEL.MASK_FORMER.TEST.LINK.FRAMES is {self.frames}; it has to be at least 1 frame.")
        if self.way == WINDOWS and not 0 < self.shared < self.frames:
            raise ValueError(
                f"MODEL.MASK_FORMER.TEST.LINK.FRAMES is {self.frames} and SHARED {self.shared}; windows share at least "
                "one frame, and at least one is new."
            )
        for name, share in (("OVERLAP", self.overlap), ("START", self.start), ("DUPLICATES", self.duplicates)):
            if not 0 <= share <= 1:
                raise ValueError(f"MODEL.MASK_FORMER.TEST.LINK.{name} is {share}; it has to be within 0 and 1.")
        if not -1 <= self.similarity <= 1 or self.memory < 0:
            raise ValueError(
                f"MODEL.MASK_FORMER.TEST.LINK.SIMILARITY is {self.similarity} and MEMORY {self.memory}; the first has "
                "to be within -1 and 1, the second at least 0 frames."
            )

    @property
    def windows(self) -> Windows:
        """Return the windows of films: those of clips where the way says so."""
        return Windows(self.frames, self.shared) if self.way == WINDOWS else Windows()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> ClipSettings:
        """Read ``CLIP``, ``TRACKS`` and ``LINK`` of ``MODEL.MASK_FORMER.TEST``."""
        test = cfg.MODEL.MASK_FORMER.TEST
        link = test.LINK
        return cls(
            way=test.CLIP,
            frames=link.FRAMES,
            shared=link.SHARED,
            tracks=test.TRACKS,
            overlap=link.OVERLAP,
            start=link.START,
            similarity=link.SIMILARITY,
            memory=link.MEMORY,
            duplicates=link.DUPLICATES,
        )
