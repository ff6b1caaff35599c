// Which charts there are, and what each draws.

import { $ } from "./dom.js";
import { Chart } from "./chart.js";
import { count, percent, seconds, secondsTick } from "./format.js";

const none = "No requests in this time";
const specs = {
  replicas: {
    title: "Replicas against demand", whole: true, empty: "No workers in this time",
    show: (value) => (Number.isInteger(value) ? String(value) : value.toFixed(1)),
    series: [
      { key: "ready", label: "ready", tone: "a", kind: "area", step: true, fold: "last" },
      { key: "desired", label: "desired", tone: "ink", kind: "line", step: true, fold: "last" },
      { key: "needed", label: "demand, in replicas", tone: "b", kind: "dash" },
    ],
  },
  queue: {
    title: "Requests", empty: none, whole: true, show: count,
    series: [
      { key: "in_flight", label: "at workers", tone: "a", kind: "area" },
      { key: "queued", label: "queued", tone: "b", kind: "line", fold: "max" },
      { key: "held", label: "held", tone: "c", kind: "line", fold: "max" },
    ],
  },
  ttft: {
    title: "Time to first token", empty: none, show: seconds, label: secondsTick,
    series: [
      { key: "ttft_p50", label: "median", tone: "a", kind: "line" },
      { key: "ttft_p99", label: "99th", tone: "b", kind: "line", fold: "max" },
    ],
  },
  attainment: {
    title: "First tokens in time", empty: none, share: true, show: percent, label: (value) => percent(value, 0),
    series: [{ key: "attainment", label: "within the target", tone: "a", kind: "line" }],
  },
  tokens: {
    title: "Tokens per second", empty: none, whole: true, show: count,
    series: [
      { key: "input", label: "in", tone: "a", kind: "line" },
      { key: "cached", label: "cached", tone: "a", kind: "dash" },
      { key: "output", label: "out", tone: "b", kind: "area" },
    ],
  },
};
const charts = {};

export function start() {
  for (const [name, spec] of Object.entries(specs)) charts[name] = new Chart($(`#chart-${name}`), spec);
}

// `router` and `scaling` are Series; `target` is in seconds.
export function show({ router, scaling, now, span, target }) {
  const [from, to] = [now - span, now];
  const of = (series, key) => (series.columns[key] ? { time: series.time, values: series.columns[key] } : undefined);
  const sources = (name, series) => Object.fromEntries(specs[name].series.map(({ key }) => [key, of(series, key)]));
  const scaled = scaling.time.length > 0;
  charts.replicas.set({ sources: { ...sources("replicas", scaling), ...(scaled ? {} : { ready: of(router, "ready") }) }, from, to });
  charts.queue.set({ sources: sources("queue", router), from, to });
  charts.ttft.set({ sources: sources("ttft", router), from, to, target, targetLabel: `target ${secondsTick(target)}` });
  charts.attainment.set({ sources: sources("attainment", router), from, to });
  charts.tokens.set({ sources: sources("tokens", router), from, to });
}
