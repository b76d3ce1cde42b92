"""Faster forms of parts of the model for inference on CPUs, with the results of the plain ones."""
