"""Robust recursive least squares over five features, a few microseconds an observation.

The recursion is Plackett's (Biometrika 37, 1950) on relative errors. What it must not do:

- *Stop learning, or forget what does not occur*: after each observation the covariance moves a bit
  towards an alternative, "this is what may have changed since" (stabilized forgetting: Kulhavy and
  Zarrop, "On a general concept of forgetting", International Journal of Control 58, 1993). Dividing
  it by a forgetting factor, as is usual, would let it grow without bound in hours of equal
  observations ("wind-up"), and with it the next error.
- *Take a slower machine for one slower feature*: in the alternative the coefficients change most of
  all in common. So features that do not occur for hours follow those that do.
- *Follow an outlier*: errors are clipped (Huber, Annals of Mathematical Statistics 35, 1964).
- *Let a coefficient get negative.*

Invariant: the covariance is symmetric (15 numbers are kept) and positive definite, and never above
the larger of where it began and the alternative.
"""

from __future__ import annotations

Row = tuple[float, float, float, float, float]
"""One number per feature."""

FORGETTING = 1e-4
"""Share by which the covariance moves towards the alternative with each observation."""
COMMON_VARIANCE = 100.0
"""Of the alternative: of a change of all coefficients together. This and the next are relative to a
coefficient, squared, in units of the variance of an observation's relative error: with errors of
5 %, all coefficients may change by 50 % together. They follow within some 15 observations."""
OWN_VARIANCE = 20.0
"""Of each coefficient by itself: within some 30 observations that have its feature."""
LEAST_SHARE = 0.01
"""A coefficient near 0 may still grow: its own variance is at least so much of the mean one's."""
CLIP = 3.0
"""An error counts up to so many times the usual error."""
SCATTER_RATE = 0.05
INITIAL_SCATTER = 0.3
MIN_SCATTER = 0.02
"""The least usual error, or any change after exact values would be an outlier."""


class LeastSquares:
    """Coefficients of `value ~= sum of coefficient * feature`, moved by each observation."""

    def __init__(self, coefficient: float, *, own_variance: float) -> None:
        """Begin with equal coefficients, each uncertain by `own_variance` besides what they are in
        common; the units are those of the alternative."""
        self.coefficients: Row = (coefficient,) * 5
        common = COMMON_VARIANCE * coefficient * coefficient
        own = common + own_variance * coefficient * coefficient
        # The upper triangle, row by row.
        self._covariance = (
            own, common, common, common, common,
            own, common, common, common,
            own, common, common,
            own, common,
            own,
        )  # fmt: skip
        self._scatter = INITIAL_SCATTER
        """Mean of the clipped relative errors of late."""

    def predict(self, row: Row) -> float:
        c0, c1, c2, c3, c4 = self.coefficients
        x0, x1, x2, x3, x4 = row
        return c0 * x0 + c1 * x1 + c2 * x2 + c3 * x3 + c4 * x4

    def observe(self, row: Row, value: float) -> None:
        """Learn from one observation of a positive value. Written out: loops take three times as
        long, and this runs in every step."""
        predicted = self.predict(row)
        # Relative to the larger: small values count like large ones, and no error exceeds 1.
        scale = 1 / max(predicted, value)
        error = self._clip((value - predicted) * scale)
        x0, x1, x2, x3, x4 = row
        x0, x1, x2, x3, x4 = x0 * scale, x1 * scale, x2 * scale, x3 * scale, x4 * scale
        p00, p01, p02, p03, p04, p11, p12, p13, p14, p22, p23, p24, p33, p34, p44 = self._covariance
        # s = P x: by how much each coefficient answers to this observation.
        s0 = p00 * x0 + p01 * x1 + p02 * x2 + p03 * x3 + p04 * x4
        s1 = p01 * x0 + p11 * x1 + p12 * x2 + p13 * x3 + p14 * x4
        s2 = p02 * x0 + p12 * x1 + p22 * x2 + p23 * x3 + p24 * x4
        s3 = p03 * x0 + p13 * x1 + p23 * x2 + p33 * x3 + p34 * x4
        s4 = p04 * x0 + p14 * x1 + p24 * x2 + p34 * x3 + p44 * x4
        leverage = s0 * x0 + s1 * x1 + s2 * x2 + s3 * x3 + s4 * x4
        gain = error / (1 + leverage)
        c0, c1, c2, c3, c4 = self.coefficients
        c0, c1, c2 = c0 + gain * s0, c1 + gain * s1, c2 + gain * s2
        c3, c4 = c3 + gain * s3, c4 + gain * s4
        self.coefficients = (c0, c1, c2, c3, c4)
        # P - s s' / (1 + leverage) is what is left to learn; then a bit of the alternative
        # d c c' + diagonal(own).
        keep = 1 - FORGETTING
        k = keep / (1 + leverage)
        k0, k1, k2, k3, k4 = k * s0, k * s1, k * s2, k * s3, k * s4
        d = FORGETTING * COMMON_VARIANCE
        d0, d1, d2, d3, d4 = d * c0, d * c1, d * c2, d * c3, d * c4
        mean = (c0 + c1 + c2 + c3 + c4) / 5
        own, floor = FORGETTING * OWN_VARIANCE, LEAST_SHARE * mean * mean
        self._covariance = (
            keep * p00 - k0 * s0 + d0 * c0 + own * (c0 * c0 + floor),
            keep * p01 - k0 * s1 + d0 * c1,
            keep * p02 - k0 * s2 + d0 * c2,
            keep * p03 - k0 * s3 + d0 * c3,
            keep * p04 - k0 * s4 + d0 * c4,
            keep * p11 - k1 * s1 + d1 * c1 + own * (c1 * c1 + floor),
            keep * p12 - k1 * s2 + d1 * c2,
            keep * p13 - k1 * s3 + d1 * c3,
            keep * p14 - k1 * s4 + d1 * c4,
            keep * p22 - k2 * s2 + d2 * c2 + own * (c2 * c2 + floor),
            keep * p23 - k2 * s3 + d2 * c3,
            keep * p24 - k2 * s4 + d2 * c4,
            keep * p33 - k3 * s3 + d3 * c3 + own * (c3 * c3 + floor),
            keep * p34 - k3 * s4 + d3 * c4,
            keep * p44 - k4 * s4 + d4 * c4 + own * (c4 * c4 + floor),
        )
        if c0 < 0 or c1 < 0 or c2 < 0 or c3 < 0 or c4 < 0:
            self._remove_negatives()

    def covariance(self) -> list[list[float]]:
        """The whole matrix, to look at."""
        kept = iter(self._covariance)
        matrix = [[0.0] * 5 for _ in range(5)]
        for i in range(5):
            for j in range(i, 5):
                matrix[i][j] = matrix[j][i] = next(kept)
        return matrix

    def _clip(self, error: float) -> float:
        """The error within its bounds; the bounds follow it, so a lasting change gets through."""
        bound = CLIP * max(self._scatter, MIN_SCATTER)
        clipped = min(max(error, -bound), bound)
        self._scatter += SCATTER_RATE * (abs(clipped) - self._scatter)
        return clipped

    def _remove_negatives(self) -> None:
        """Move each negative coefficient to 0, and the others with it as far as the covariance says
        that they trade places: what was observed is still explained."""
        coefficients = list(self.coefficients)
        for i, line in enumerate(self.covariance()):
            if coefficients[i] < 0:
                shift = coefficients[i] / line[i]
                coefficients = [c - shift * p for c, p in zip(coefficients, line, strict=True)]
        c0, c1, c2, c3, c4 = (max(c, 0.0) for c in coefficients)
        self.coefficients = (c0, c1, c2, c3, c4)
