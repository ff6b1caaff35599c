"""Recorded arrivals and lengths, one file a format."""
