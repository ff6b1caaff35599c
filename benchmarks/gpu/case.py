"""One thing to time: a call, the bytes and operations it must do, and who else can do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Call = Callable[[int], object]
"""Does the work once, on input set number `i`. Launches on the current CUDA stream."""

FlopRate = Literal["bf16", "fp8", "int8"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Each input is read once and each output written once, in the bytes and in the floor."""

    name: str
    """`op/shape`, such as "paged_attention/decode-64x4096-bf16"."""
    call: Call
    bytes_moved: int
    flops: int = 0
    flop_rate: FlopRate = "bf16"
    """Whose rate the FLOPs are held against."""
    num_inputs: int = 1
    """Input sets to rotate among, so that no call finds its inputs in the L2 cache: together they
    should be several times its 50 MB."""
    peers: dict[str, Call] = field(default_factory=dict)
    """The same work by others, on the same tensors."""
    capturable: bool = True
    """Whether calls can be captured in a CUDA graph; else the host's launch time is in the figure
    of short kernels."""
    peers_capturable: bool = False
    """Whether all its peers' calls can, too; else the host's launch time is in theirs."""
    target: float | None = None
    """Share of the floor's rate that we want to reach: 0.85 of the copy bandwidth, say."""
