"""What tests of Armillary, and of whatever is built on it, stand on. Start reading at `database.py`."""
