"""The GPU kernels and the engine beside the floors of the GPU they run on.

Nothing here imports more than torch, Triton, numpy and (for the peer) transformers: it runs from
the source tree on machines where nothing of ours is installed.
"""
