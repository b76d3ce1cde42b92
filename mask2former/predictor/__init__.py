"""Run a trained model, given by its name, on images.

>>> from mask2former import Predictor
>>> predictor = Predictor("coco/panoptic/swin_tiny")
>>> predictor("img.jpg").save("out.png")
"""

from mask2former.predictor.arrays import InstanceArrays
from mask2former.predictor.parts import Part
from mask2former.predictor.predictor import Predictor
from mask2former.predictor.result import Result

__all__ = ["InstanceArrays", "Part", "Predictor", "Result"]
