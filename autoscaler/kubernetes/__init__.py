"""Scaling on Kubernetes: replicas over `/scale`, policies as objects, one leader."""
