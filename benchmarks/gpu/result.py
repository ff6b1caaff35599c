"""What was measured of one case, held against the floor, as a row and as JSON. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    name: str
    us: float
    floor_us: float
    bound_by: str
    """"bytes" or "operations": which of the two makes the floor."""
    bytes_moved: int
    flops: int
    peers_us: dict[str, float]
    """Peers that ran; one that failed is named in `failed_peers`."""
    failed_peers: dict[str, str]
    target: float | None

    @property
    def of_floor(self) -> float:
        """Share of the floor's rate that was reached: 1 is the floor itself."""
        return self.floor_us / self.us

    @property
    def ratio_to_best_peer(self) -> float | None:
        """Time of the fastest peer over ours: above 1 we are faster."""
        return min(self.peers_us.values()) / self.us if self.peers_us else None

    @property
    def rate(self) -> str:
        """What the time amounts to, in the unit of what bounds it."""
        if self.bound_by == "bytes":
            return f"{self.bytes_moved / self.us / 1e3:,.0f} GB/s"
        return f"{self.flops / self.us / 1e6:,.0f} TFLOP/s"

    @property
    def is_on_target(self) -> bool | None:
        return None if self.target is None else self.of_floor >= self.target

    def as_json(self) -> dict[str, object]:
        ratio = self.ratio_to_best_peer
        return {
            "us": round(self.us, 2),
            "floor_us": round(self.floor_us, 2),
            "of_floor": round(self.of_floor, 3),
            "bound_by": self.bound_by,
            "rate": self.rate,
            "target": self.target,
            "peers_us": {name: round(us, 2) for name, us in self.peers_us.items()},
            "failed_peers": self.failed_peers,
            "ratio_to_best_peer": None if ratio is None else round(ratio, 3),
        }


HEADER = ("case", "us", "floor us", "of floor", "target", "rate", "best peer")


def row(result: Result) -> tuple[str, ...]:
    """The columns of `HEADER`."""
    ratio, peer = result.ratio_to_best_peer, "-"
    if ratio is not None:
        best = min(result.peers_us, key=result.peers_us.__getitem__)
        peer = f"{best} {result.peers_us[best]:,.1f} us, x{ratio:.2f}"
    target = "-" if result.target is None else f"{result.target:.0%}"
    if result.is_on_target is False:
        target += " missed"
    return (
        result.name, f"{result.us:,.1f}", f"{result.floor_us:,.1f}", f"{result.of_floor:.0%}",
        target, result.rate, peer,
    )  # fmt: skip


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows as Markdown, which a terminal shows well enough."""
    widths = [max(map(len, column)) for column in zip(HEADER, *rows, strict=True)]

    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)) + " |"

    return "\n".join([line(HEADER), line(tuple("-" * w for w in widths)), *map(line, rows)])
