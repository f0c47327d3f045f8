"""Rules: queries with holes that submit a job when their roles are filled. Start reading at `rule.py`, then `fire.py`."""
