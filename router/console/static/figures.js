// The numbers at the head of the page.

import { $, el, setText } from "./dom.js";
import { count, NONE, percent, seconds, secondsParts, secondsTick } from "./format.js";

const SHOWN = [
  ["requests", "Requests per second"],
  ["tokens", "Output tokens per second"],
  ["ttft", "First token, median"],
  ["attainment", "First tokens in time"],
  ["waiting", "Waiting"],
  ["cost", "Output tokens per $"],
];
const nodes = {};

export function start() {
  $("#figures").append(...SHOWN.map(([name, label]) => {
    const [number, unit, sub] = [el("span", {}, NONE), el("small"), el("dd", { class: "sub" })];
    nodes[name] = { number, unit, sub };
    return el("div", { id: `figure-${name}` }, el("dt", {}, label), el("dd", {}, number, unit), sub);
  }));
}

function set(name, number, sub, { unit = "", tone = "" } = {}) {
  const node = nodes[name];
  setText(node.number, number);
  setText(node.unit, unit);
  setText(node.sub, sub);
  node.sub.title = sub; // where it is cut off
  node.sub.className = `sub ${tone}`;
}

// The share that a policy asks for; without one, what most would call bad.
function goal(scaling, model) {
  const policy = scaling?.models.find((each) => each.model === (model || scaling.history_of));
  return policy?.slo?.attainment ?? 0.95;
}

export function show({ figures: now, target_s: target, scaling, model }) {
  const failing = now.failed_per_s > 0;
  set("requests", count(now.requests_per_s), failing ? `${count(now.failed_per_s)} failed or refused` : "none failed", { tone: failing ? "bad" : "" });
  const cached = now.cached_share === null ? "" : `, ${percent(now.cached_share, 0)} cached`;
  set("tokens", count(now.output_tokens_per_s), `${count(now.input_tokens_per_s)} in${cached}`);
  const [number, unit] = secondsParts(now.ttft_p50_s);
  set("ttft", number, now.ttft_p99_s === null ? "no answer in the last minute" : `99th percentile ${seconds(now.ttft_p99_s)}`, { unit });
  const late = now.attainment !== null && now.attainment < goal(scaling, model);
  set("attainment", percent(now.attainment).replace("\u00a0%", ""), now.attainment === null ? "no answer in five minutes" : `within ${secondsTick(target)}, last 5 min`,
    { unit: now.attainment === null ? "" : "%", tone: late ? "bad" : "" });
  set("waiting", count(now.queued + now.held), `${count(now.held)} held, ${count(now.in_flight)} at workers`, { tone: now.held > 0 ? "warn" : "" });
  set("cost", count(now.tokens_per_cost), now.cost_per_hour ? `at ${now.cost_per_hour.toFixed(2)} an hour` : "workers have no cost_per_hour");
}
