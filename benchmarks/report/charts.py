"""Line charts as SVG: round numbers on the axes, a legend, values on hover. No library behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from . import numbers, scales
from .markup import Markup, compact, element, join
from .numbers import Quantity
from .scales import Scale

WIDTH, HEIGHT = 560, 230
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 22, 36
NUM_COLOURS = 6

Point = tuple[float, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line. A point without a y is a gap."""

    name: str
    points: Sequence[Point]
    colour: int = 0
    dashed: bool = False
    dots: bool = False
    """A dot at every point, for lines of a few measured points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """What to draw. `x` and `y` say what the axes measure."""

    title: str
    series: Sequence[Series]
    x: Quantity = Quantity.SECONDS
    y: Quantity = Quantity.SECONDS
    x_label: str = ""
    log_x: bool = False
    log_y: bool = False
    x_range: tuple[float, float] | None = None
    """None: from zero to the largest value, or round numbers around all if not `x_from_zero`."""
    x_from_zero: bool = True
    y_range: tuple[float, float] | None = None
    """None: from zero to the largest value."""
    level: tuple[float, str] | None = None
    """A horizontal line with its name, such as a target."""
    marker: tuple[float, str] | None = None
    """A vertical one."""


def draw(chart: Chart) -> Markup | None:
    """The chart as a `<figure>`; None when there is not one point to draw."""
    xs = [x for one in chart.series for x, y in one.points if numbers.is_known(y)]
    ys = numbers.known(y for one in chart.series for _, y in one.points)
    if not ys:
        return None
    x_scale = _x_scale(chart, xs)
    y_scale = _y_scale(chart, ys)
    svg = element(
        "svg",
        _axes(chart, x_scale, y_scale),
        *(_guide(chart, x_scale, y_scale)),
        *(_line(chart, one, x_scale, y_scale) for one in chart.series),
        element("line", class_="cursor", y1=TOP, y2=HEIGHT - BOTTOM, x1=0, x2=0),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=chart.title,
        class_="chart",
        data_left=LEFT,
        data_right=WIDTH - RIGHT,
    )
    return element("figure", element("figcaption", chart.title), svg, legend(chart.series))


def legend(series: Sequence[Series]) -> Markup | None:
    """Names with their colours; None for a lone line, which the title names."""
    if len(series) < 2:
        return None
    return element(
        "div",
        *(
            element("span", element("i", class_=f"c{one.colour % NUM_COLOURS}"), one.name)
            for one in series
        ),
        class_="legend",
    )


def _x_scale(chart: Chart, xs: Sequence[float]) -> Scale:
    low, high = min(xs), max(xs)
    if chart.log_x and low > 0:
        return scales.logarithmic(low, high, num_ticks=7)
    if chart.x_range is not None:
        return scales.exact(*chart.x_range, num_ticks=6)
    if chart.marker is not None:
        low, high = min(low, chart.marker[0]), max(high, chart.marker[0])
    if not chart.x_from_zero:
        return scales.linear(low, high, num_ticks=6)
    return scales.exact(min(low, 0.0), high, num_ticks=6)


def _y_scale(chart: Chart, ys: Sequence[float]) -> Scale:
    if chart.y_range is not None:
        return scales.exact(*chart.y_range, num_ticks=4)
    if chart.log_y and min(ys) > 0:
        return scales.logarithmic(min(ys), max(ys), num_ticks=5)
    high = max(max(ys), chart.level[0] if chart.level else 0.0)
    return scales.linear(0.0, high, num_ticks=4, base=2 if chart.y is Quantity.BYTES else 10)


def _px(scale: Scale, x: float) -> float:
    return LEFT + scale(x) * (WIDTH - LEFT - RIGHT)


def _py(scale: Scale, y: float) -> float:
    return HEIGHT - BOTTOM - scale(y) * (HEIGHT - TOP - BOTTOM)


def _axes(chart: Chart, x_scale: Scale, y_scale: Scale) -> Markup:
    parts: list[Markup] = []
    y_labels, y_unit = scales.labels(y_scale, chart.y)
    for tick, label in zip(y_scale.ticks, y_labels, strict=True):
        y = _py(y_scale, tick)
        parts.append(element("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y))
        parts.append(element("text", label, x=LEFT - 7, y=y + 4, text_anchor="end"))
    x_labels, x_unit = scales.labels(x_scale, chart.x)
    for tick, label in zip(x_scale.ticks, x_labels, strict=True):
        x = _px(x_scale, tick)
        parts.append(
            element("line", class_="tick", x1=x, x2=x, y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM + 4)
        )
        parts.append(element("text", label, x=x, y=HEIGHT - BOTTOM + 17, text_anchor="middle"))
    base = HEIGHT - BOTTOM
    parts.append(element("line", class_="axis", x1=LEFT, x2=WIDTH - RIGHT, y1=base, y2=base))
    name = " ".join(part for part in (chart.x_label, f"({x_unit})" if x_unit else "") if part)
    if name:
        parts.append(
            element("text", name, class_="name", x=WIDTH - RIGHT, y=HEIGHT - 3, text_anchor="end")
        )
    if y_unit:
        parts.append(element("text", y_unit, class_="name", x=LEFT - 7, y=9, text_anchor="end"))
    return join(*parts)


def _guide(chart: Chart, x_scale: Scale, y_scale: Scale) -> list[Markup]:
    """The level and the marker, each with its name at its end."""
    parts = []
    if chart.level is not None:
        y = _py(y_scale, chart.level[0])
        parts.append(element("line", class_="level", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y))
        parts.append(
            element("text", chart.level[1], class_="note", x=LEFT + 6, y=y - 5)
            if y > TOP + 14
            else element("text", chart.level[1], class_="note", x=LEFT + 6, y=y + 14)
        )
    if chart.marker is not None:
        x = _px(x_scale, chart.marker[0])
        on_right = x < (LEFT + WIDTH) / 2
        parts.append(element("line", class_="level", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM))
        parts.append(
            element(
                "text",
                chart.marker[1],
                class_="note",
                x=x + (6 if on_right else -6),
                y=HEIGHT - BOTTOM - 8,
                text_anchor="start" if on_right else "end",
            )
        )
    return parts


def _line(chart: Chart, series: Series, x_scale: Scale, y_scale: Scale) -> Markup:
    """A path a run of known points, and what hovering shows."""
    colour = f"c{series.colour % NUM_COLOURS}"
    pieces, dots = [], []
    places: list[str] = []
    texts: list[str] = []
    for is_known, run in groupby(series.points, lambda point: numbers.is_known(point[1])):
        if not is_known:
            continue
        spots = [(x, y) for x, y in run if y is not None]
        coordinates = [(_px(x_scale, x), _py(y_scale, y)) for x, y in spots]
        steps = [f"{compact(px)} {compact(py)}" for px, py in coordinates]
        if len(steps) > 1:
            pieces.append("M" + "L".join(steps))
        elif not series.dots:  # a point between two gaps
            dots += [element("circle", cx=px, cy=py, r=2) for px, py in coordinates]
        places += [f"{compact(px)},{compact(py)}" for px, py in coordinates]
        texts += [f"{numbers.text(y, chart.y)} · {numbers.text(x, chart.x)}" for x, y in spots]
        if series.dots:
            dots += [element("circle", cx=px, cy=py, r=3) for px, py in coordinates]
    path = None
    if pieces:
        path = element("path", d="".join(pieces), class_="dashed" if series.dashed else None)
    return element(
        "g",
        path,
        *dots,
        class_=f"series {colour}",
        data_name=series.name,
        data_at=" ".join(places),
        data_text="|".join(texts),
    )
