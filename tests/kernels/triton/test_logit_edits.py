from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from shoal.kernels.dispatch import triton_on_cpu
from shoal.kernels.logit_edits import EditBatch, edit_logits_, edit_logits_torch_

Entry = tuple[int, int, float]


def batch(rules: list[list[Entry]], device: torch.device) -> EditBatch:
    entries = [entry for rule in rules for entry in rule]
    ends = [sum(map(len, rules[: i + 1])) for i in range(4)]
    return EditBatch(
        rows=torch.tensor([row for row, _, _ in entries], dtype=torch.int32, device=device),
        token_ids=torch.tensor([t for _, t, _ in entries], dtype=torch.int32, device=device),
        values=torch.tensor([v for _, _, v in entries], dtype=torch.float32, device=device),
        ends=(ends[0], ends[1], ends[2], ends[3]),
    )


def by_hand(logits: Tensor, rules: list[list[Entry]]) -> Tensor:
    x = logits.double().clone()
    for i, rule in enumerate(rules):
        for row, token, value in rule:
            if i == 0:
                x[row, token] = (
                    x[row, token] / value if x[row, token] > 0 else x[row, token] * value
                )
            else:
                x[row, token] += value if i == 3 else -value
    return x


RULES: list[list[Entry]] = [
    [(0, 3, 1.3), (0, 4, 1.3), (2, 0, 0.5), (2, 699, 0.5)],
    [(0, 3, 0.7), (1, 5, -0.25)],
    [(1, 5, 0.25)] * 300 + [(2, 699, 0.1)],
    [(0, 9, -math.inf), (1, 0, 100.0)],
]


@pytest.mark.parametrize("rules", [RULES, [[], RULES[1], [], []], [[], [], [], []]])
@pytest.mark.parametrize("body", ["triton", "torch"])
def test_rules_apply_in_their_order(
    body: str, rules: list[list[Entry]], device: torch.device
) -> None:
    # Multiples of 1/64: the sums of 300 quarters are exact, in whatever order they are added.
    logits = torch.randn(3, 700, generator=torch.Generator().manual_seed(0)).mul(64).round() / 64
    found, edits = logits.to(device, copy=True), batch(rules, device)
    if body == "torch":
        edit_logits_torch_(found, edits)
    else:
        with triton_on_cpu():
            edit_logits_(found, edits)
    # Two roundings of numbers below 8 where values are no such multiples.
    torch.testing.assert_close(
        found.cpu().double(), by_hand(logits, rules), rtol=0, atol=2 * 2**-22
    )
    touched = torch.zeros(3, 700, dtype=torch.bool)
    for row, token, _ in (entry for rule in rules for entry in rule):
        touched[row, token] = True
    assert torch.equal(found.cpu()[~touched], logits[~touched])


def test_strided_rows(device: torch.device) -> None:
    logits = torch.ones(4, 10, device=device)
    with triton_on_cpu():
        edit_logits_(logits[::2, 1:], batch([[], [], [], [(1, 2, 5.0)]], device))
    expected = torch.ones(4, 10)
    expected[2, 3] = 6.0
    assert torch.equal(logits.cpu(), expected)


def test_what_does_not_fit_is_refused() -> None:
    edits = batch(RULES, torch.device("cpu"))
    with pytest.raises(ValueError, match="fp32"):
        edit_logits_(torch.zeros(3, 700, dtype=torch.bfloat16), edits)
    with pytest.raises(ValueError, match="ends"):
        EditBatch(
            rows=edits.rows, token_ids=edits.token_ids, values=edits.values, ends=(0, 1, 2, 3)
        )
    with pytest.raises(ValueError, match=r"token_ids is \[1\] torch.int32"):
        replace(edits, token_ids=edits.token_ids[:1])
    with pytest.raises(ValueError, match=r"rows is .* torch.int64"):
        replace(edits, rows=edits.rows.long())
