"""Shoal beside other servers: the same model, workload and machine, in turns."""
