"""Algorithms: what can be run, in versions that never change. Start reading at `algorithm.py`."""
