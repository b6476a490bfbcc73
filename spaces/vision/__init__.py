"""Spaces over images."""
