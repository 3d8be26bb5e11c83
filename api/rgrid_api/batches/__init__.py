"""Batches: submitted, listed, cancelled, retried, deleted."""
