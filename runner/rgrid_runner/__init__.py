"""The rgrid runner: the agent on a host that claims and runs executions."""
