"""Dependency layers of the fleet: what is in them, who builds one, and where its archive is."""
