"""The policy file, and the `spec` of a Kubernetes `ScalingPolicy`: one schema for both."""
