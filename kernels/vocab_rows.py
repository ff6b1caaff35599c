"""Operations on rows of vocabulary size, fast on either device.

On the CPU numpy's vectorised loops do them 5 to 20 times faster than torch's (one row of 49,152
float32 on one AVX2 core: argmax 5 against 95 us, the best 1,024 80 against 550 us, sorting all
550 against 4,300 us). The arrays share their memory with the tensors; nothing is copied.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def row_argmax(rows: Tensor) -> Tensor:
    """Index of the largest entry of each row, of the first NaN where there is one: [num_rows]."""
    if _on_cpu(rows):
        return torch.from_numpy(rows.numpy().argmax(axis=1))
    return rows.argmax(dim=1)


def largest_values(rows: Tensor, count: int) -> Tensor:
    """The `count` largest values of each row in descending order: [num_rows, count]."""
    if _on_cpu(rows):
        last = rows.shape[1] - count
        values = np.partition(rows.numpy(), last, axis=1)[:, last:]
        values.sort(axis=1)
        return torch.from_numpy(values).flip(1)
    return rows.topk(count, dim=1).values


def count_above(rows: Tensor, limits: Tensor) -> Tensor:
    """How many entries of each row are above its limit; limits and result: [num_rows]."""
    if _on_cpu(rows):
        above = rows.numpy() > limits.numpy()[:, None]
        return torch.from_numpy(np.count_nonzero(above, axis=1))
    return (rows > limits.unsqueeze(1)).sum(dim=1)


def zero_below_(rows: Tensor, limits: Tensor) -> None:
    """Set the entries of each row that are below its limit to 0; limits: [num_rows]."""
    if _on_cpu(rows):
        array = rows.numpy()
        np.multiply(array, array >= limits.numpy()[:, None], out=array)
    else:
        rows.mul_(rows >= limits.unsqueeze(1))


def _on_cpu(rows: Tensor) -> bool:
    return rows.device.type == "cpu"
