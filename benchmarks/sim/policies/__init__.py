"""Scalers to compare: Shoal's, and others written from their published algorithms."""
