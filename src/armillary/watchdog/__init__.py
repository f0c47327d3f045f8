"""The watchdog: looks at everything, and nothing depends on it. Start reading at `doctor.py`."""
