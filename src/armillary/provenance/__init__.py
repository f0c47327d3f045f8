"""Provenance: what made each granule, from what, with what. Start reading at `activity.py`, then `lineage.py`."""
