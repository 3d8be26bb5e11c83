"""Bytes by their SHA-256: what a project has, and where new bytes go."""
