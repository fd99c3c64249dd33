"""The domains of clips."""

DOMAINS = ("visual", "audio")
"""Faces (`visual`) and log-Mel segments (`audio`). The network's input `domain` is an index of this
tuple."""
