"""What runners ask of the control plane."""
