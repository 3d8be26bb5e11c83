"""Programs that run inside containers, copied there; the agent imports none of them."""
