"""COCO's run-length encoding of masks: reading it (:mod:`decode`) and writing it (:mod:`encode`)."""
