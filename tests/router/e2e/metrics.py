"""Pages of metrics, as numbers to ask for."""

from __future__ import annotations

import re
from typing import NamedTuple

_SAMPLE = re.compile(r"(?P<name>[\w:]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Sample(NamedTuple):
    name: str
    labels: dict[str, str]
    value: float


class Metrics:
    """One page."""

    def __init__(self, samples: list[Sample]) -> None:
        self._samples = samples

    def __sub__(self, before: Metrics) -> Metrics:
        """What has been counted since."""
        old = {(s.name, *sorted(s.labels.items())): s.value for s in before._samples}
        return Metrics(
            [
                s._replace(value=s.value - old.get((s.name, *sorted(s.labels.items())), 0.0))
                for s in self._samples
            ]
        )

    def sum(self, name: str, **labels: str) -> float:
        """Of all samples of that name with these labels; 0 when there are none."""
        return sum(
            sample.value
            for sample in self._samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def by(self, name: str, label: str) -> dict[str, float]:
        """Sums by the values of one label; zeros are left out."""
        sums: dict[str, float] = {}
        for sample in self._samples:
            if sample.name == name and sample.value:
                key = sample.labels[label]
                sums[key] = sums.get(key, 0.0) + sample.value
        return sums


def parse_metrics(page: str) -> Metrics:
    """Prometheus' text format, of labels without escapes; pages are read by the hundred here."""
    samples = []
    for line in page.splitlines():
        if not line.startswith("#") and (found := _SAMPLE.fullmatch(line)) is not None:
            labels = dict(_LABEL.findall(found["labels"] or ""))
            samples.append(Sample(found["name"], labels, float(found["value"])))
    return Metrics(samples)
