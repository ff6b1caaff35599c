// Where ticks go, and how many points a chart of some width can show.

// A round number at or above `value`, and its halves or quarters as ticks.
export function niceTop(value) {
  if (!(value > 0)) return { top: 1, ticks: [0, 1] };
  const power = 10 ** Math.floor(Math.log10(value));
  const step = [1, 2, 2.5, 4, 5, 8, 10].find((factor) => factor * power >= value * 0.999999);
  const top = step * power;
  const parts = step === 2.5 || step === 5 || step === 10 ? 5 : step === 1 ? 4 : step === 8 || step === 4 ? 4 : 2;
  const used = parts === 5 ? 5 : parts;
  return { top, ticks: Array.from({ length: used + 1 }, (_, i) => (top * i) / used) };
}

// Whole counts have whole ticks.
export function wholeTop(value) {
  if (value <= 5) {
    const top = Math.max(1, Math.ceil(value));
    return { top, ticks: Array.from({ length: top + 1 }, (_, i) => i) };
  }
  const { top } = niceTop(Math.ceil(value));
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000].find((each) => top / each <= 5) ?? top / 4;
  const end = Math.ceil(value / step) * step;
  return { top: end, ticks: Array.from({ length: end / step + 1 }, (_, i) => i * step) };
}

// Shares are near one when all is well: the axis begins below the worst, not at zero.
export function shareAxis(least) {
  const bottom = [0.9, 0.8, 0.5].find((each) => least >= each) ?? 0;
  return { bottom, top: 1, ticks: [bottom, (1 + bottom) / 2, 1] };
}

export function timeTicks(from, to, width) {
  const wanted = Math.max(2, Math.floor(width / 110));
  const step = [60, 120, 300, 600, 900, 1200, 1800].find((each) => (to - from) / each <= wanted) ?? 3600;
  const ticks = [];
  for (let tick = Math.ceil(from / step) * step; tick <= to; tick += step) ticks.push(tick);
  return ticks;
}

const FOLDS = {
  mean: (values) => values.reduce((sum, value) => sum + value, 0) / values.length,
  max: (values) => Math.max(...values),
  last: (values) => values.at(-1),
};

// Points (time, value or null) of one column, at most `limit`: neighbours are folded into one.
export function thinned(time, values, from, to, limit, fold = "mean") {
  let start = time.findIndex((each) => each >= from);
  if (start < 0) return [];
  if (start > 0) start -= 1; // the line comes in from the left
  const points = [];
  const size = Math.max(1, Math.ceil((time.length - start) / limit));
  for (let i = start; i < time.length; i += size) {
    const end = Math.min(i + size, time.length);
    const known = values.slice(i, end).filter((value) => value !== null && value !== undefined);
    points.push([time[end - 1], known.length ? FOLDS[fold](known) : null]);
  }
  return points;
}
