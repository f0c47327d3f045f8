"""Pools: fleets of workers, wished and actual. Start reading at `pool.py`, then `worker.py` and `reconcile.py`."""
