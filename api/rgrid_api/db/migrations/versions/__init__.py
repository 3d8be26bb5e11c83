"""Schema changes, one file each, forward only."""
