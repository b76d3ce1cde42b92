"""Choose the frames of a training clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from detectron2.config import CfgNode


@dataclass(frozen=True)
class FrameSampling:
    """A reference frame, and others that are near to it.

    Attributes:
        number: T, frames of a clip.
        reach: greatest distance of the others from the reference frame, in frames.
        shuffle: leave the frames in the order drawn, instead of that of time.
    """

    number: int
    reach: int
    shuffle: bool

    @classmethod
    def from_config(cls, cfg: CfgNode) -> FrameSampling:
        inputs = cfg.INPUT
        if inputs.SAMPLING_FRAME_NUM < 1 or inputs.SAMPLING_FRAME_RANGE < 0:
            raise ValueError(
                f"INPUT.SAMPLING_FRAME_NUM is {inputs.SAMPLING_FRAME_NUM} and SAMPLING_FRAME_RANGE "
                f"{inputs.SAMPLING_FRAME_RANGE}; a clip has at least 1 frame, and a range is 0 or more frames."
            )
        return cls(inputs.SAMPLING_FRAME_NUM, inputs.SAMPLING_FRAME_RANGE, inputs.SAMPLING_FRAME_SHUFFLE)

    def __call__(self, length: int) -> list[int]:
        """Draw T frames of a video of ``length`` frames: the reference among all, the others with replacement.

        Where no other frame is in reach (a video of one frame), the reference frame is repeated.
        """
        reference = int(np.random.randint(length))
        near = [
            i for i in range(max(0, reference - self.reach), min(length, reference + self.reach + 1)) if i != reference
        ]
        others = np.random.choice(near or [reference], self.number - 1).tolist()
        frames = [reference, *others]
        if self.shuffle:
            np.random.shuffle(frames)
            return frames
        return sorted(frames)
