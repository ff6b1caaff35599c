"""Loads: what clients do, and what they saw. They know no router, only ports."""
