"""Which endpoints fail more often than the others: Envoy's success-rate outliers.

A breaker looks at one endpoint and at absolute bounds; one that fails a fifth of its requests trips
nothing. Beside its peers it stands out: its success rate is far below the mean of them all, in
standard deviations. Where all fail alike nobody stands out, so a fault they share ejects nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Final

MIN_ENDPOINTS: Final = 5
MIN_REQUESTS: Final = 100
"""Of an endpoint, for its rate to count."""
FACTOR: Final = 1.9
"""Standard deviations below the mean. These three are Envoy's defaults."""
MIN_GAP: Final = 0.05
"""And at least so far below: among perfect ones a single failure is two deviations, and nothing."""


def outliers(counts: Mapping[str, tuple[int, int]]) -> list[str]:
    """endpoint_ids out of `{endpoint_id: (successes, requests)}`, the worst first."""
    rates = {
        endpoint_id: successes / requests
        for endpoint_id, (successes, requests) in counts.items()
        if requests >= MIN_REQUESTS
    }
    if len(rates) < MIN_ENDPOINTS:
        return []
    mean = sum(rates.values()) / len(rates)
    deviation = sqrt(sum((rate - mean) ** 2 for rate in rates.values()) / len(rates))
    threshold = mean - max(FACTOR * deviation, MIN_GAP)
    found = [endpoint_id for endpoint_id, rate in rates.items() if rate < threshold]
    return sorted(found, key=lambda endpoint_id: rates[endpoint_id])
