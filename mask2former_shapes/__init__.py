"""Scenes of simple shapes, drawn from a seed, with exact ground truth for every segmentation task.

They are the images of the quickstart's data set, which :mod:`mask2former_shapes.draw` writes. NumPy, OpenCV and COCO's
run lengths are all that is imported, so that drawing starts at once and worker processes are cheap.

Coordinates: pixels of the drawing are ``OVERSAMPLING`` times finer than those of the finished image. x goes right
and y down, except in the shapes of things (``things/``), where y goes up from the foot of the thing.
Colours: RGB, float32, 0 to 1. Lengths in the finished image are in units of 1/128 of its shorter side.
"""

OVERSAMPLING = 3
