"""WebSockets that show an execution or a batch as it happens."""
