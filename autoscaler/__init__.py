"""The autoscaler: decides how many workers there should be. No code yet; see README.md."""
