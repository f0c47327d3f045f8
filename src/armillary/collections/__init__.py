"""Collections: what a kind of granule promises. Start reading at `collection.py`."""
