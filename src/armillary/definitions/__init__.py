"""Definitions: what people write in YAML, applied all or nothing and kept with its history. Start at `apply.py`."""
