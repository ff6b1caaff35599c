"""A comparison as dots with whiskers around even: which figures differ, and how surely."""

from __future__ import annotations

import math
from collections.abc import Mapping

from shoal.benchmarks.result import Ratio

from . import numbers, scales
from .charts import WIDTH
from .figures import better, figure
from .markup import Markup, element

ROW, TOP, LEFT, RIGHT, BOTTOM = 26, 8, 160, 120, 30


def draw(ratios: Mapping[str, Ratio]) -> Markup | None:
    """One row a figure: geometric mean of A / B, its interval, and the value; logarithmic."""
    if not ratios:
        return None
    ends = [end for r in ratios.values() for end in (r.low, r.high, r.geometric_mean) if end]
    reach = max(*(abs(math.log(end)) for end in ends), math.log(1.1)) * 1.08
    scale = scales.logarithmic(math.exp(-reach), math.exp(reach), num_ticks=7)
    height = TOP + ROW * len(ratios) + BOTTOM
    width = WIDTH + 190

    def px(value: float) -> float:
        return LEFT + scale(value) * (width - LEFT - RIGHT)

    parts = []
    for tick in scale.ticks:
        x = px(tick)
        parts.append(element("line", class_="grid", x1=x, x2=x, y1=TOP, y2=height - BOTTOM))
        parts.append(
            element("text", f"{tick:g}", x=x, y=height - BOTTOM + 16, text_anchor="middle")
        )
    even = px(1.0)
    parts.append(element("line", class_="axis", x1=even, x2=even, y1=TOP, y2=height - BOTTOM))
    for index, (key, ratio) in enumerate(ratios.items()):
        y = TOP + ROW * (index + 0.5)
        parts.append(element("text", figure(key).label, x=0, y=y + 4))
        colour = _colour(key, ratio)
        whisker = None
        if ratio.low is not None and ratio.high is not None:
            whisker = element("path", d=f"M{px(ratio.low):.1f} {y:.1f}H{px(ratio.high):.1f}")
        dot = element("circle", cx=px(ratio.geometric_mean), cy=y, r=4)
        parts.append(element("g", whisker, dot, class_=f"series {colour}"))
        value = numbers.ratio(ratio.geometric_mean)
        parts.append(element("text", value, class_="note", x=width - RIGHT + 16, y=y + 4))
    return element(
        "figure",
        element("figcaption", "A divided by B, with its 95 % interval"),
        element("svg", *parts, viewBox=f"0 0 {width} {height}", role="img", class_="whiskers"),
    )


def _colour(key: str, ratio: Ratio) -> str:
    """Green where A is surely better, red where it is surely worse, soft where nobody knows."""
    is_sure = ratio.low is not None and ratio.high is not None and (ratio.low > 1 or ratio.high < 1)
    verdict = better(figure(key), ratio.geometric_mean)
    if not is_sure or verdict is None:
        return "soft"
    return "good" if verdict else "bad"
