"""Operations on many jobs at once: previewed, done in one transaction, kept, and undone. Start reading at `operation.py`."""
