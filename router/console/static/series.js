// Columns over time: what has come so far, and no more than an hour of it.

const KEPT_S = 3700;

export class Series {
  constructor() {
    this.clear();
  }

  clear() {
    this.time = [];
    this.columns = {};
  }

  get last() {
    return this.time.at(-1) ?? 0;
  }

  // Columns as the server sends them; `time` is one of them.
  append(columns) {
    const start = columns.time.findIndex((time) => time > this.last);
    if (start < 0) return;
    for (const [name, values] of Object.entries(columns)) {
      const into = name === "time" ? this.time : (this.columns[name] ??= []);
      into.push(...values.slice(start));
    }
    const cut = this.time.findIndex((time) => time >= this.last - KEPT_S);
    if (cut > 0) for (const column of [this.time, ...Object.values(this.columns)]) column.splice(0, cut);
  }

  // The same from a list of points.
  appendPoints(points) {
    if (!points.length) return;
    const names = Object.keys(points[0]).filter((name) => name === "time" || typeof points[0][name] !== "string");
    this.append(Object.fromEntries(names.map((name) => [name, points.map((point) => point[name] ?? null)])));
  }
}
