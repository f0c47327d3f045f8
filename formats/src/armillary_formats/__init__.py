"""Metadata, footprints and pictures of science file formats.

Every reader is a function `read(path) -> dict` that returns a partial STAC item or raises `Refused`.
They run out of process; start reading at `worker.py` (the process) and `pool.py` (who keeps it).
"""
