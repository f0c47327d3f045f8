"""Granules: what was measured or made, with its files, revisions and footprint. Start reading at `granule.py`."""
