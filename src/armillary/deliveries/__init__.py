"""Deliveries: what is sent to whom, what was really sent, and what the other side answered. Start at `delivery.py`."""
