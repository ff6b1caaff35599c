"""Shoal's harness beside others: the same server, the same load, in turns."""
