"""Triton bodies, one file an operation: a `@triton.jit` kernel and the function that launches it.

Only the public functions one folder up import from here, and only when a tensor is on a GPU.
"""
