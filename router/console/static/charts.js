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
    title: "Running and waiting", empty: none, whole: true, show: count,
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
  requests: {
    title: "Requests per second", empty: none, show: count,
    series: [
      { key: "requests", label: "all", tone: "a", kind: "area" },
      { key: "failed", label: "failed or refused", tone: "b", kind: "line", fold: "max" },
    ],
  },
  tokens: {
    title: "Tokens per second", empty: none, whole: true, show: count,
    series: [
      { key: "input", label: "in", tone: "a", kind: "line" },
      { key: "cached", label: "cached", tone: "a", kind: "dash" },
      { key: "output", label: "out", tone: "b", kind: "area" },
    ],
  },
  cost: {
    title: "Output tokens per $", empty: "No tokens, or none that cost anything", whole: true, show: count,
    series: [{ key: "per_cost", label: "tokens", tone: "b", kind: "area" }],
  },
  kv: {
    title: "KV cache in use", empty: "No workers in this time", share: "low", show: (value) => percent(value, 0),
    series: [{ key: "kv", label: "mean of ready workers", tone: "a", kind: "area" }],
  },
};
const charts = {};

export function start() {
  for (const [name, spec] of Object.entries(specs)) charts[name] = new Chart($(`#chart-${name}`), spec);
}

// As an autoscaler prices replicas, for workers that name no cost of their own.
function priced({ time, columns: { cost_per_hour: cost, output_tokens_per_s: output } }) {
  return cost && output ? { time, values: cost.map((each, i) => (each > 0 && output[i] !== null ? (output[i] * 3600) / each : null)) } : undefined;
}

// `router` and `scaling` are Series; `target` is in seconds.
export function show({ router, scaling, now, span, target }) {
  const [from, to] = [now - span, now];
  const of = (series, key) => (series.columns[key] ? { time: series.time, values: series.columns[key] } : undefined);
  const sources = (name, series) => Object.fromEntries(specs[name].series.map(({ key }) => [key, of(series, key)]));
  const scaled = scaling.time.length > 0;
  charts.replicas.set({ sources: { ...sources("replicas", scaling), ...(scaled ? {} : { ready: of(router, "ready") }) }, from, to });
  for (const name of ["attainment", "requests", "tokens", "kv"]) charts[name].set({ sources: sources(name, router), from, to });
  charts.cost.set({ sources: router.columns.per_cost?.some((value) => value !== null) ? sources("cost", router) : { per_cost: priced(scaling) }, from, to });
  charts.queue.set({ sources: sources("queue", router), from, to });
  charts.ttft.set({ sources: sources("ttft", router), from, to, target, targetLabel: `target ${secondsTick(target)}` });
}
