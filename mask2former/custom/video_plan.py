"""Choose the settings of a clip model: what configs/video/ and the published configurations have, by rules."""

from __future__ import annotations

import math
import statistics

from mask2former.custom.settings import TrainingPlan
from mask2former.data.checks import Report

FRAMES, REACH = 2, 20  # of a training clip, and how far the others are from one of them; as published
TRACKS = 10  # that are shown of a video, as published
SMALL_DIM = 128  # channels of the small networks
DECAY = 0.998  # of the averaged weights; configs/_base_/video_small.yaml


def choose_clips(plan: TrainingPlan, report: Report) -> None:
    """Choose the network, and how clips are drawn from videos."""
    plan.choose("MODEL.META_ARCHITECTURE", "VideoMaskFormer", "tracks in videos: a query is one object in all frames")
    plan.choose(
        "MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME",
        "VideoMultiScaleMaskedTransformerDecoder",
        "has the parameters of the decoder of images, so that weights of image models serve",
    )
    plan.choose("INPUT.SAMPLING_FRAME_NUM", FRAMES, "as published; more take more memory")
    length = statistics.median(frames for frames, _ in report.of_videos.values())
    reach = max(1, min(REACH, math.ceil(length / 2)))
    why = "as published" if reach == REACH else f"half of the median length, {length:g} frames"
    plan.choose("INPUT.SAMPLING_FRAME_RANGE", reach, why)
    plan.choose("INPUT.MIN_SIZE_TRAIN_SAMPLING", "choice_by_clip", "one size for all frames of a clip")
    plan.choose("INPUT.RANDOM_FLIP", "flip_by_clip", "all frames of a clip or none")
    if plan["MODEL.SEM_SEG_HEAD.CONVS_DIM"] <= SMALL_DIM:
        plan.choose("SOLVER.EMA.ENABLED", True, "averaged weights, as configs/_base_/video_small.yaml has them")
        plan.choose("SOLVER.EMA.DECAY", DECAY, "an average of some 500 steps")


def choose_tracks(plan: TrainingPlan, report: Report) -> None:
    """Choose queries and results enough for the tracks of a video."""
    most = max(tracks for _, tracks in report.of_videos.values())
    why = f"up to {most} tracks in a video"
    if most > 0.9 * plan["MODEL.MASK_FORMER.NUM_OBJECT_QUERIES"]:
        plan.choose("MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", min(300, 50 * math.ceil(1.2 * most / 50)), why)
    queries = plan["MODEL.MASK_FORMER.NUM_OBJECT_QUERIES"]
    plan.choose("MODEL.MASK_FORMER.TEST.TRACKS", min(queries, max(TRACKS, 2 * most)), why)
