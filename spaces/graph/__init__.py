"""Spaces over graphs."""
