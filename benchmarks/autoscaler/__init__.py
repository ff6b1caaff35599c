"""`make bench-autoscaler`: Shoal's scaler beside others on many loads, in virtual time."""
