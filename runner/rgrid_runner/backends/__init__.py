"""What a runner runs scripts with: one small interface (``base``), one file for each implementation."""
