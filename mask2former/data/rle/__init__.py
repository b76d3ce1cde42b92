"""COCO's run-length encoding of masks: :mod:`decode` reads it, :mod:`encode` writes it."""
