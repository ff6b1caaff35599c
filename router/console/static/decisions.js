// What was decided, and why: scaling and routing.

import { $, el, keyed, setText } from "./dom.js";
import { clock, count, percent, seconds, secondsTick, short } from "./format.js";

function empty(...children) {
  return el("div", { class: "empty" }, ...children);
}

// A list that says something when it has nothing; `state` tells one emptiness from another.
function list(box, state, make, fill) {
  if (box.dataset.state !== state) {
    box.dataset.state = state;
    box.replaceChildren(...make());
  }
  fill?.();
}

// Numbers of an explanation: seconds and shares by their names, all else as counts.
function told(name, value) {
  if (typeof value !== "number") return String(value);
  if (name.endsWith("_s") && !name.endsWith("_per_s")) return value < 0 ? `−${seconds(-value)}` : seconds(value);
  if (/attainment|share|usage|utili[sz]ation/.test(name)) return percent(value);
  return count(value);
}

const words = (name) => name.replace(/(?<!_per)_s$/, "").replaceAll("_", " ");

function table(rows) {
  return el("table", {}, el("tbody", {}, rows.map(([name, value]) =>
    el("tr", {}, el("td", { class: "soft" }, words(name)), el("td", { class: "n" }, told(name, value))))));
}

// Scaling.

const total = (replicas) => Object.values(replicas).reduce((sum, number) => sum + number, 0);
const changed = (decision) => Object.keys(decision.desired).filter((name) => decision.before[name] !== decision.desired[name]);

function headline(decision) {
  if (!decision.valid) return "holds: metrics are missing";
  const names = changed(decision);
  const several = Object.keys(decision.desired).length > 1;
  if (!names.length) return `stays at ${total(decision.desired)}`;
  return names.map((name) => `${several ? `${name} ` : ""}${decision.before[name] ?? 0} → ${decision.desired[name]}`).join(", ");
}

function makeScaling() {
  const [time, what, tag, why, parts] = [el("time"), el("strong"), el("span", { class: "tag" }), el("span", { class: "why" }), el("div", { class: "parts" })];
  const node = el("details", { class: "entry" }, el("summary", {}, time, what, tag, why), parts);
  node.nodes = { time, what, tag, why, parts };
  return node;
}

function updateScaling(node, decision) {
  const { time, what, tag, why, parts } = node.nodes;
  setText(time, clock(decision.time));
  setText(what, headline(decision));
  what.className = decision.valid ? "" : "warn";
  const failed = Object.entries(decision.failures ?? {}).map(([variant, text]) => `${variant} was not taken: ${text}`);
  const since = decision.since === decision.time ? "" : `since ${clock(decision.since)}`;
  setText(tag, since || (decision.applied || !changed(decision).length ? "" : decision.mode === "advise" ? "advised" : "not applied"));
  const reasons = decision.reasons.map((reason) => [reason.variant, reason.detail || words(reason.kind)].filter(Boolean).join(": "));
  setText(why, [...failed, ...reasons].join("; "));
  const explain = JSON.stringify(decision.explain);
  if (parts.dataset.explain !== explain) {
    parts.dataset.explain = explain;
    parts.replaceChildren(table(Object.entries(decision.explain ?? {})));
  }
}

function policy({ model, mode, slo, variants }) {
  const sum = (name) => variants.reduce((all, variant) => all + (variant[name] ?? 0), 0);
  const more = ["pending", "unschedulable", "draining"].filter((name) => sum(name)).map((name) => `, ${sum(name)} ${name}`).join("");
  const bounds = `${sum("min_replicas")} to ${sum("max_replicas")}`;
  return el("div", {}, el("b", {}, model), ` ${sum("ready")} of ${sum("desired")} ready${more} `,
    el("span", { class: "soft" }, `(${bounds}; ${mode}; first token in ${secondsTick(slo?.ttft_s)} for ${percent(slo?.attainment, 0)})`));
}

export function showScaling({ scaling, model }) {
  const box = $("#scaling");
  if (!scaling) {
    list(box, "none", () => [empty(
      el("p", {}, "No autoscaler is connected. On one machine, this starts a model with one:"), el("code", {}, "shoal up MODEL --min 0 --max 3"),
      el("p", {}, "Elsewhere, name its admin API in the router's configuration:"), el("code", {}, "admin: {autoscaler_url: http://…}"))]);
    return;
  }
  if (scaling.error) {
    list(box, scaling.error, () => [empty(el("p", { class: "bad" }, scaling.error), el("p", {}, "Replicas stay as they are; the router goes on."))]);
    return;
  }
  const decisions = scaling.decisions.filter((decision) => !model || decision.model === model);
  if (!decisions.length) {
    list(box, "quiet", () => [empty(el("p", {}, scaling.models.length ? "No decision yet: the first comes with the first metrics." : "The autoscaler has no policy for a model yet."))]);
    return;
  }
  list(box, "decisions", () => [el("div", { class: "policy" }), el("div", { class: "entries" })], () => {
    const [policies, entries] = box.children;
    const text = JSON.stringify(scaling.models);
    if (policies.dataset.text !== text) {
      policies.dataset.text = text;
      policies.replaceChildren(...scaling.models.filter((each) => !model || each.model === model).map(policy));
    }
    keyed(entries, decisions, (decision) => `${decision.model} ${decision.since}`, makeScaling, updateScaling);
  });
}

// Routing.

export function routed(decision) {
  return decision.endpoint === null ? "nowhere" : short(decision.endpoint);
}

// Zeros say nothing about why.
const parts = (reasons) => Object.entries(reasons).filter(([, value]) => value).map(([name, value]) => `${words(name)} ${told(name, value)}`).join(", ");

function candidates(decision) {
  const rejected = Object.entries(decision.rejected ?? {}).map(([why, number]) => `${number} ${words(why)}`).join(", ");
  return [
    el("ol", {}, decision.candidates.map((each) =>
      el("li", {}, short(each.endpoint), el("span", { class: "mono" }, `score ${each.score.toPrecision(3).replace("-", "−")}`),
        el("div", { class: "soft" }, parts(each.reasons))))),
    el("div", { class: "soft" }, [rejected && `left out: ${rejected}`, `policy ${decision.policy}`, `request ${decision.request_id}`].filter(Boolean).join("; ")),
  ];
}

function makeRouting(decision) {
  const cached = decision.num_cached_tokens ? `${count(decision.num_cached_tokens)} cached` : "";
  const node = el("details", { class: "entry" },
    el("summary", {}, el("time", {}, clock(decision.ts)), el("strong", {}, `${decision.model} → ${routed(decision)}`),
      el("span", { class: "tag" }, cached), el("span", { class: "why" }, decision.reason)));
  // Made when it is opened: there are many, and few are looked into.
  node.addEventListener("toggle", () => {
    if (node.open && node.children.length === 1) node.append(el("div", { class: "parts" }, candidates(decision)));
  });
  return node;
}

export function showRouting({ decisions, model }) {
  const box = $("#routing");
  const shown = decisions.filter((decision) => !model || decision.model === model);
  if (!shown.length) {
    list(box, "none", () => [empty(el("p", {}, "No request has been routed yet. Ask a model something, and see here where it went."))]);
    return;
  }
  list(box, "decisions", () => [], () =>
    keyed(box, shown, (decision) => `${decision.process} ${decision.request_id} ${decision.ts.toFixed(2)}`, makeRouting));
}
