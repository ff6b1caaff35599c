// The table of workers, with the two things that people do to one.

import { post } from "./api.js";
import { $, el, keyed, setText } from "./dom.js";
import { count, percent, short } from "./format.js";

const TONES = { ready: "ok", starting: "warn", draining: "soft", unhealthy: "bad" };
const CELLS = ["name", "status", "models", "running", "waiting", "in_flight", "kv", "cost", "action"];
const LABELS = { running: "Running", waiting: "Waiting", in_flight: "In flight", kv: "KV cache", cost: "Cost / h" };

let acted = () => {};

// `then` is called when something was done to a worker.
export function start(then) {
  acted = then;
}

async function act(button, { endpoint_id: id, is_drained: drained }) {
  const verb = drained ? "undrain" : "drain";
  if (!drained && !confirm(`Send nothing new to ${id}? Its running requests finish.`)) return;
  button.disabled = true;
  try {
    await post(`/admin/endpoints/${encodeURIComponent(id)}/${verb}`);
    acted();
  } catch (error) {
    alert(error.message);
  } finally {
    button.disabled = false;
  }
}

function makeRow(worker) {
  const numbers = ["running", "waiting", "in_flight", "cost"];
  const row = el("tr", {}, CELLS.map((name) =>
    el("td", { class: numbers.includes(name) ? `n ${name}` : name, "data-label": LABELS[name] })));
  const parts = Object.fromEntries(CELLS.map((name, i) => [name, row.children[i]]));
  const [name, where, status, why, fill, share] = ["span", "span", "span", "span", "i", "span"].map((tag) => el(tag));
  where.className = why.className = "why";
  const button = el("button", { type: "button", onclick: () => act(button, row.worker) });
  parts.name.append(name, where);
  parts.status.append(status, why);
  parts.kv.append(el("span", { class: "bar", "aria-hidden": "true" }, fill), share);
  parts.action.append(button);
  row.nodes = { ...parts, name, where, status, why, fill, share, button };
  row.worker = worker;
  return row;
}

function reason(worker) {
  if (worker.status === "unhealthy") return worker.last_error ?? "";
  if (worker.is_leaving) return "leaving";
  if (worker.is_terminating) return "terminating";
  if (worker.is_drained) return "drained by hand";
  return worker.breaker && worker.breaker !== "closed" ? `breaker ${worker.breaker.replace("_", " ")}` : "";
}

function updateRow(row, worker) {
  const nodes = row.nodes;
  row.worker = worker;
  const named = worker.endpoint_id !== worker.url;
  setText(nodes.name, short(worker.endpoint_id));
  setText(nodes.where, [named ? short(worker.url) : "", worker.engine].filter(Boolean).join(", "));
  setText(nodes.status, worker.status);
  nodes.status.className = `dot ${TONES[worker.status] ?? ""} ${worker.status === "ready" ? "" : "ring"}`;
  setText(nodes.why, reason(worker));
  setText(nodes.models, worker.models.join(", ") || "not known yet");
  const scraped = worker.scraped_age_s !== null;
  setText(nodes.running, scraped ? count(worker.num_requests_running) : count(null));
  setText(nodes.waiting, scraped ? count(worker.num_requests_waiting) : count(null));
  setText(nodes.in_flight, count(worker.in_flight));
  setText(nodes.share, scraped ? percent(worker.kv_cache_usage, 0) : count(null));
  nodes.fill.style.width = `${Math.min(100, 100 * worker.kv_cache_usage)}%`;
  setText(nodes.cost, worker.cost_per_hour ? worker.cost_per_hour.toFixed(2) : count(null));
  setText(nodes.button, worker.is_drained ? "Undrain" : "Drain");
  nodes.button.setAttribute("aria-label", `${worker.is_drained ? "Undrain" : "Drain"} ${worker.endpoint_id}`);
  nodes.button.hidden = worker.is_leaving;
}

export function show({ endpoints, held, scaling }) {
  const empty = $("#fleet-empty");
  $("#fleet").parentElement.hidden = !endpoints.length;
  empty.hidden = endpoints.length > 0;
  keyed($("#fleet tbody"), endpoints, (worker) => worker.endpoint_id, makeRow, updateRow);
  if (endpoints.length) return;
  const waiting = Object.entries(held).filter(([, number]) => number > 0);
  const text = waiting.length
    ? `${waiting.map(([model, number]) => `${number} for ${model}`).join(", ")} waiting for a first worker.`
    : scaling?.models.length ? "Scaled to zero. The next request starts one." : "No workers yet. Add one:";
  if (empty.dataset.text === text) return;
  empty.dataset.text = text;
  empty.replaceChildren(el("p", {}, text), ...(scaling?.models.length ? [] : [
    el("code", {}, `curl ${location.origin}/admin/endpoints -d '{"url": "http://127.0.0.1:8000"}'`)]));
}
