"""Spectral-cube imaging: visibilities in, images of every channel out."""

__version__ = "0.1.0"
