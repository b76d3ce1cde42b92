"""Readers of other forms of tracks in videos, and their writing in the form of YouTube-VIS."""

from mask2former.data.video_forms.coco_frames import has_video_ids, read_coco_frames
from mask2former.data.video_forms.mots import mots_form, read_mots
from mask2former.data.video_forms.youtube_vis import Written, write_videos

__all__ = ["Written", "has_video_ids", "mots_form", "read_coco_frames", "read_mots", "write_videos"]
