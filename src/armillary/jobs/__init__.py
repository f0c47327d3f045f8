"""Jobs: work that was asked for, its attempts and what became of it. Start reading at `job.py`, then `submit.py`."""
