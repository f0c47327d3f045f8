"""Accounts: who asks, in which groups, and whether they may. Start reading at `actor.py`."""
