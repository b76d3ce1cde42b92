"""Losses: terms, pixel losses and the pixels at which masks are compared, with bounded memory."""
