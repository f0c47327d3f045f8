"""What runs on a compute node: lease a job, stage in, run, stage out, report. It speaks HTTP alone. Start at `run.py`."""
