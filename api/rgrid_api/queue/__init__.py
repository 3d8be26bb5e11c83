"""The queue: every change of an execution's state."""
