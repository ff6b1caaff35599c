"""Which attention calls the prefill path takes, and with which tiles."""

from __future__ import annotations

from .gpu import Gpu

MIN_QUERY_LEN = 256
"""Chunks below this are left to the general kernel: a tile of 128 queries would be part empty."""


def prefill_path_takes(
    gpu: Gpu,
    *,
    max_query_len: int,
    head_dim: int,
    block_size: int,
    element_bytes: int,
    plain: bool,
) -> bool:
    """Whether the requests with `MIN_QUERY_LEN` tokens or more are for `prefill_attention`.

    `plain`: the cache has the dtype of the queries, and there is no sliding window, soft-cap or
    sink. `max_query_len` is a bound of the step: when it is smaller there is nothing to launch.
    """
    return (
        plain
        and gpu.capability[0] == 9
        and max_query_len >= MIN_QUERY_LEN
        and head_dim == 128
        and element_bytes == 2
        and block_size in (16, 32, 64, 128)
    )
