"""From lines to medians, and from pairs of lines to ratios. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from statistics import median

from .peers_result import Line, PeersResult
from .standard_set import THROUGHPUT_CASES

OURS = "shoal"
OURS_BF16 = "shoal-bf16"
"""The same server with bf16 weights and activations, which is what the peers compute in."""
COMPARED = "output_tokens_per_s"

Medians = dict[str, dict[str, dict[str, float]]]


def turns(names: Sequence[str], repeats: int) -> Iterator[tuple[int, str]]:
    """(repeat, name): every name once a repeat, each repeat beginning one further on.

    A machine that warms up or slows down within a repeat then favours none.
    """
    for repeat in range(repeats):
        first = repeat % len(names)
        for name in (*names[first:], *names[:first]):
            yield repeat, name


def medians(lines: Iterable[Line]) -> Medians:
    """Median of each figure by server and case; lines with an error count for nothing."""
    values: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for line in lines:
        if line.error is None:
            for figure, value in line.figures.items():
                values[line.server][line.case][figure].append(value)
    return {
        server: {
            case: {figure: median(several) for figure, several in figures.items()}
            for case, figures in cases.items()
        }
        for server, cases in values.items()
    }


def best_peer(of: Medians, case: str) -> str | None:
    """The peer with the most output tokens per second; None where no peer has a figure."""
    speeds = {
        server: cases[case][COMPARED]
        for server, cases in of.items()
        if server not in (OURS, OURS_BF16) and COMPARED in cases.get(case, {})
    }
    return max(speeds, key=lambda server: speeds[server]) if speeds else None


def ratios(lines: Iterable[Line], case: str, peer: str, *, ours: str = OURS) -> list[float]:
    """Ours divided by the peer's, of each repeat that has both."""
    speeds = {
        (line.server, line.repeat): line.figures[COMPARED]
        for line in lines
        if line.case == case and line.error is None and COMPARED in line.figures
    }
    return [
        speed / speeds[peer, repeat]
        for (server, repeat), speed in speeds.items()
        if server == ours and speeds.get((peer, repeat))
    ]


def conclude(result: PeersResult) -> None:
    """Fill in everything that follows from the lines."""
    result.medians = medians(result.lines)
    result.best_peer, result.ratio_to_best_peer, result.ratio_to_best_peer_bf16 = {}, {}, {}
    for case in THROUGHPUT_CASES:
        peer = best_peer(result.medians, case)
        if peer is None:
            continue
        if pairs := ratios(result.lines, case, peer):
            result.best_peer[case] = peer
            result.ratio_to_best_peer[case] = round(median(pairs), 3)
        if pairs := ratios(result.lines, case, peer, ours=OURS_BF16):
            result.ratio_to_best_peer_bf16[case] = round(median(pairs), 3)
