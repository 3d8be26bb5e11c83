"""The shim: the small process that owns a script's pipes, wait status, timeout and lease, and outlives the agent."""
