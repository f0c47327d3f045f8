"""What a monitoring system asks: counters added up from the history, the state of now, and how this server answers."""
