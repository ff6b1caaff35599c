"""Random choices of one case, written down so that a failure can say what they were."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

import torch

T = TypeVar("T")

ODD_SIZES = (0, 1, 2, 3, 7, 13, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129)
"""Where loops over tiles go wrong: empty, one, primes, and each side of a power of two."""


class Draw:
    """The choices of the case with this seed; the same seed makes the same choices."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.seed, self.device = seed, device
        self.choices: dict[str, object] = {}
        self._random = random.Random(seed)

    def pick(self, name: str, options: Sequence[T]) -> T:
        choice = self._random.choice(options)
        self.choices[name] = choice
        return choice

    def size(self, name: str, largest: int, *, gpu: int | None = None, least: int = 0) -> int:
        """Between `least` and `largest` (on a GPU: `gpu`), half of the time an odd size."""
        if gpu is not None and self.device.type == "cuda":
            largest = gpu
        odd = [size for size in ODD_SIZES if least <= size <= largest]
        if odd and self._random.random() < 0.5:
            size = self._random.choice(odd)
        else:
            size = self._random.randint(least, largest)
        self.choices[name] = size
        return size

    def flag(self, name: str) -> bool:
        return self.pick(name, (False, True))

    def float_dtype(self, name: str = "dtype") -> torch.dtype:
        return self.pick(name, (torch.float32, torch.float16, torch.bfloat16))

    def narrow_dtype(self, name: str = "dtype") -> torch.dtype:
        """Of matrix products: the interpreter multiplies the bit patterns of bf16, so not there."""
        on_gpu = self.device.type == "cuda"
        return self.pick(name, (torch.float16, torch.bfloat16) if on_gpu else (torch.float16,))

    def product_dtype(self) -> torch.dtype:
        return self.pick("dtype", (torch.float32, self.narrow_dtype("narrow")))

    def integers(self, count: int, least: int, most: int) -> list[int]:
        """Not written down: they follow from the seed."""
        return [self._random.randint(least, most) for _ in range(count)]

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Values in (-8, 8) or so: normal, times a power of two."""
        generator = torch.Generator().manual_seed(self._random.getrandbits(60))
        scale = 2.0 ** self._random.randint(-2, 1)
        return (torch.randn(*shape, generator=generator) * scale).to(dtype).to(self.device)

    def describe(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.choices.items())
