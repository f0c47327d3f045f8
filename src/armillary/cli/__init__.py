"""`armillary …`: a thin client of the HTTP API, nouns then verbs. Start reading at `main.py`."""
