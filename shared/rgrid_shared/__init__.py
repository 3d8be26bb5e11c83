"""The words and pure rules that every rgrid room shares: no I/O, no clock, no randomness."""

__version__ = "0.1.0"

API_VERSION = 1
"""The wire contract's major version. Every answer carries it in the ``Rgrid-Api`` header."""
