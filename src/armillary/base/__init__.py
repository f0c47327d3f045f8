"""The ground that every noun stands on; it knows none of them. Start reading at `db.py`."""
