"""Spaces whose values stand in a table: benchmarks of the field."""
