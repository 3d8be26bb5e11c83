"""Containers that run scripts: what the agent keeps ready, and the programs of ours that run inside."""
