// A line chart in SVG: areas, lines and steps over time, one vertical axis.
// The legend holds the newest values, or those under the pointer, which all charts share.

import { el, setText, svg } from "./dom.js";
import { clock, NONE } from "./format.js";
import { axis, shareAxis, thinned, timeTicks } from "./scale.js";

const BOTTOM = 20;
const TOP = 14;
const shared = { time: null, charts: new Set() };

function point(time) {
  shared.time = time;
  for (const chart of shared.charts) chart.showCursor();
}

export class Chart {
  // series: {key, label, tone, kind: "line" | "area" | "dash", step, fold}. `show(value)` writes one,
  // `label(value)` one at the axis.
  constructor(box, { title, series, show, label = show, whole = false, share = false, empty }) {
    Object.assign(this, { series, show, label, whole, share, empty, title });
    this.target = null;
    this.note = el("span", { class: "key at" });
    this.goal = el("span", { class: "key target", hidden: true });
    this.keys = new Map(series.map((each) => [each.key, el("var", {}, NONE)]));
    this.plot = svg("svg", { role: "img", tabindex: "0" });
    box.append(
      el("figcaption", {}, el("b", {}, title, this.note), series.map((each) =>
        el("span", { class: `key tone-${each.tone} ${each.kind}`, "data-series": each.key }, el("i"), each.label, this.keys.get(each.key))), this.goal),
      this.plot,
    );
    this.legend = new Map([...box.querySelectorAll("[data-series]")].map((node) => [node.dataset.series, node]));
    this.plot.addEventListener("pointermove", (event) => point(this.timeAt(event.offsetX)));
    this.plot.addEventListener("pointerleave", () => point(null));
    this.plot.addEventListener("blur", () => point(null));
    this.plot.addEventListener("keydown", (event) => this.onKey(event));
    new ResizeObserver(() => this.draw()).observe(this.plot);
    shared.charts.add(this);
  }

  // `sources`: by key of a series, {time, values}; `from` and `to` in Unix seconds.
  set({ sources, from, to, target = null, targetLabel = "" }) {
    Object.assign(this, { sources, from, to, target });
    this.goal.hidden = target === null;
    this.goal.replaceChildren(el("i"), targetLabel);
    this.draw();
  }

  timeAt(x) {
    return this.from + (x / this.width) * (this.to - this.from);
  }

  x(time) {
    return ((time - this.from) / (this.to - this.from)) * this.width;
  }

  y(value) {
    return TOP + (1 - (value - this.bottom) / (this.top - this.bottom)) * (this.height - TOP - BOTTOM);
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.plot;
    if (!this.sources || !width) return;
    Object.assign(this, { width, height });
    this.lines = this.series
      .filter((each) => this.sources[each.key])
      .map((each) => {
        const { time, values } = this.sources[each.key];
        const points = thinned(time, values, this.from, this.to, Math.max(60, width / 2), each.fold);
        if (each.step && points.length) points.push([this.to, points.at(-1)[1]]); // it holds until told otherwise
        return { ...each, points };
      });
    for (const [key, node] of this.legend) node.hidden = !this.sources[key];
    const shown = this.lines.flatMap((line) => line.points.map(([, value]) => value)).filter((value) => value !== null);
    const most = Math.max(0, ...shown);
    const { bottom = 0, top, ticks } = this.share ? shareAxis(this.share === "low" ? 0 : Math.min(1, ...shown)) : axis(Math.max(most, this.target ?? 0) || 1, this.whole);
    Object.assign(this, { bottom, top });
    this.plot.replaceChildren(
      ...this.axes(ticks),
      ...this.lines.flatMap((line) => this.line(line)),
      ...this.targetLine(),
      ...((this.share ? shown.length : most > 0) ? [] : [svg("text", { class: "none", x: width / 2, y: height / 2, "text-anchor": "middle" }, this.empty)]),
    );
    this.cursor = svg("line", { class: "cursor", y1: TOP, y2: height - BOTTOM, visibility: "hidden" });
    this.plot.append(this.cursor);
    this.showCursor();
  }

  axes(ticks) {
    const { width, height } = this;
    return [
      ...ticks.flatMap((tick) => [
        svg("line", { class: "grid", x1: 0, x2: width, y1: Math.round(this.y(tick)), y2: Math.round(this.y(tick)) }),
        tick > this.bottom || this.bottom ? svg("text", { x: 0, y: this.y(tick) - 4 }, this.label(tick)) : null,
      ]).filter(Boolean),
      ...timeTicks(this.from, this.to, width).map((tick) => {
        const x = this.x(tick);
        return svg("text", { x, y: height - 5, "text-anchor": x < 16 ? "start" : x > width - 16 ? "end" : "middle" }, clock(tick, false));
      }),
    ];
  }

  line({ points, tone, kind, step }) {
    const parts = [];
    let run = [];
    const close = () => {
      if (run.length) parts.push(run);
      run = [];
    };
    for (const [time, value] of points) {
      if (value === null) close();
      else run.push([Math.max(0, Math.min(this.width, this.x(time))), this.y(Math.min(value, this.top))]);
    }
    close();
    const path = parts.map((part) => this.path(part, step)).join("");
    const drawn = [svg("path", { class: `stroke tone-${tone} ${kind}`, d: path })];
    if (kind === "area") {
      const base = this.height - BOTTOM;
      const area = parts.map((part) => `${this.path(part, step)}V${base}H${part[0][0].toFixed(1)}Z`).join("");
      drawn.unshift(svg("path", { class: `fill tone-${tone}`, d: area }));
    }
    return drawn;
  }

  path(part, step) {
    const [first, ...rest] = part.map(([x, y]) => [x.toFixed(1), y.toFixed(1)]);
    const start = `M${first[0]} ${first[1]}`;
    if (!rest.length) return `${start}h0`; // a round cap makes it a dot
    return start + rest.map(([x, y]) => (step ? `H${x}V${y}` : `L${x} ${y}`)).join("");
  }

  targetLine() {
    if (this.target === null) return [];
    const y = this.y(this.target);
    return [svg("line", { class: "target", x1: 0, x2: this.width, y1: y, y2: y })];
  }

  showCursor() {
    if (!this.lines) return;
    const at = shared.time !== null && shared.time >= this.from && shared.time <= this.to ? shared.time : null;
    this.cursor.setAttribute("visibility", at === null ? "hidden" : "visible");
    if (at !== null) for (const end of ["x1", "x2"]) this.cursor.setAttribute(end, this.x(at));
    setText(this.note, at === null ? "" : clock(at));
    const told = this.lines.map(({ key, label, points }) => {
      const value = at === null ? points.at(-1)?.[1] : nearest(points, at);
      const text = value === null || value === undefined ? NONE : this.show(value);
      setText(this.keys.get(key), text);
      return `${label} ${text}`;
    });
    this.plot.setAttribute("aria-label", `${this.title}: ${told.join(", ")}`);
  }

  onKey(event) {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") point(null);
    if (!move) return;
    event.preventDefault();
    const at = (shared.time ?? this.to) + (move * (this.to - this.from)) / 60;
    point(Math.max(this.from, Math.min(this.to, at)));
  }
}

function nearest(points, time) {
  let best = null;
  for (const each of points) if (!best || Math.abs(each[0] - time) < Math.abs(best[0] - time)) best = each;
  return best?.[1];
}
