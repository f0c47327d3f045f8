"""Suites that every implementation of a seam passes, ours and those of others."""
