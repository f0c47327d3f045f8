"""What speaks to a server from outside: the calls, the sign-in, the one way in for bytes. Start at `client.py`."""
