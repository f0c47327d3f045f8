"""OpenTelemetry traces, from ingest to delivery, told after the fact from the history."""
