"""The rgrid control plane."""
