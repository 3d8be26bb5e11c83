"""Watching what runs: logs, states and outputs as they come, across reconnects."""
