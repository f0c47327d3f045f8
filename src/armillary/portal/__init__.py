"""Pages rendered by the server; they know only what the HTTP API tells them. Start reading at `pages.py`."""
