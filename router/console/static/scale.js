// Where ticks go, and how many points a chart of some width can show.

// An axis from zero to a round number at or above `most`, with three or four round steps.
export function axis(most, whole = false) {
  const least = whole ? 1 : 1e-9;
  const rough = Math.max(most / 3.5, least);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(least, power * [1, 2, whole ? 5 : 2.5, 5, 10].find((factor) => factor * power >= rough * 0.999));
  const number = Math.max(1, Math.ceil((most / step) * 0.999));
  return { top: number * step, ticks: Array.from({ length: number + 1 }, (_, i) => i * step) };
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
