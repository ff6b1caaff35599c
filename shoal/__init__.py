"""Shoal: an LLM inference serving layer whose decisions are the same everywhere."""

__version__ = "0.1.0"
