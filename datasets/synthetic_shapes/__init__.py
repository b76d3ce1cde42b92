"""Scenes of simple shapes, drawn from a seed, with exact ground truth for every segmentation task.

It needs NumPy and OpenCV alone, so that drawing starts at once and worker processes are cheap.

Coordinates: pixels of the drawing are ``OVERSAMPLING`` times finer than those of the finished image. x goes right
and y down, except in the shapes of things (``things/``), where y goes up from the foot of the thing.
Colours: RGB, float32, 0 to 1. Lengths in the finished image are in units of 1/128 of its shorter side.
"""

OVERSAMPLING = 3
