"""Executions: one run of one script with one set of arguments."""
