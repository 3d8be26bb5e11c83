"""Bringing outputs home."""
