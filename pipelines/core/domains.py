"""The domains that a clip is read as."""

DOMAINS = ("visual", "audio")
"""Faces (`visual`) and log-Mel segments (`audio`). The index of a domain is the network's input `domain`."""
