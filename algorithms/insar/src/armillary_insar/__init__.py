"""Sentinel-1 IW interferograms: a processor, and a simulator that knows the truth."""

__version__ = "1.0.0"
