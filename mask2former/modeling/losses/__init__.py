"""Losses of masks: where masks are compared, by which loss of a pixel, and with bounded memory."""
