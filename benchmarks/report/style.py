"""Look and behaviour of a report: one style sheet, one small script, both inline."""

from __future__ import annotations

# Colours of lines: Okabe and Ito's palette, which colour-blind people tell apart.
CSS = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6672; --line: #dfe4ea;
  --paper: #ffffff; --card: #f6f8fa; --warn: #fff4e0; --warn-ink: #7a4b00; --bad: #b3261e;
  --good: #00714f; --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b8508f; --c4: #2f9fd8;
  --c5: #b07a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --soft: #9aa5b1; --line: #313942;
  --paper: #14181d; --card: #1c2229; --warn: #33270f; --warn-ink: #ffcf80; --bad: #ff8a80;
  --good: #4cd6a4; --c0: #4fb3ec; --c1: #ff8f45; --c2: #35cfa0; --c3: #e58bc0; --c4: #8fd3f7;
  --c5: #e8b84a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 28px 24px 60px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; font-weight: 650; }
h2 { font-size: 18px; margin: 40px 0 12px; font-weight: 650; }
h3 { font-size: 15px; margin: 22px 0 8px; font-weight: 600; }
p.sub, .soft { color: var(--soft); margin: 0; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 22px 0 0; }
.tile { flex: 1 1 calc((100% + 12px) / var(--columns) - 12px);
  background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 12px 14px; }
.tile b { display: block; font-size: 20px; font-weight: 620; line-height: 1.3;
  white-space: nowrap; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 13px; }
.tile small { display: block; color: var(--soft); font-size: 12px; }
ul.warnings { list-style: none; margin: 20px 0 0; padding: 10px 14px; border-radius: 8px;
  background: var(--warn); color: var(--warn-ink); }
.scroll { overflow-x: auto; }
.charts + .scroll, .tiles + .charts { margin-top: 18px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 6px 10px; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { color: var(--soft); font-weight: 550; font-size: 13px; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td.text { white-space: normal; text-align: left; overflow-wrap: anywhere; }
td small { color: var(--soft); display: block; font-size: 12px; }
.good { color: var(--good); } .bad { color: var(--bad); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr));
  gap: 18px 26px; }
figure { margin: 0; min-width: 0; }
figcaption { font-weight: 550; font-size: 14px; margin-bottom: 2px; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg.whiskers { max-width: 760px; }
svg text { font-size: 11.5px; fill: var(--soft); }
svg text.note { fill: var(--ink); }
svg line.grid { stroke: var(--line); stroke-width: 1; }
svg line.axis, svg line.tick { stroke: var(--soft); stroke-width: 1; }
svg line.level { stroke: var(--soft); stroke-dasharray: 4 4; }
svg line.cursor { stroke: var(--soft); opacity: 0; }
svg .series path { fill: none; stroke: currentColor; stroke-width: 1.8;
  stroke-linejoin: round; stroke-linecap: round; }
svg .series path.dashed { stroke-dasharray: 5 4; }
svg circle { fill: currentColor; }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); }
.c3 { color: var(--c3); } .c4 { color: var(--c4); } .c5 { color: var(--c5); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 13px; color: var(--soft); }
.legend span { overflow-wrap: anywhere; }
.legend i { display: inline-block; width: 18px; height: 3px; border-radius: 2px;
  background: currentColor; margin-right: 6px; vertical-align: middle; }
#tip { position: fixed; z-index: 2; pointer-events: none; display: none; max-width: 320px;
  background: var(--paper); border: 1px solid var(--line); border-radius: 6px; padding: 6px 9px;
  font-size: 12.5px; box-shadow: 0 3px 14px rgb(0 0 0 / 18%);
  font-variant-numeric: tabular-nums; }
#tip div { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
details { margin-top: 10px; } summary { cursor: pointer; color: var(--soft); }
dl { display: grid; grid-template-columns: minmax(120px, max-content) 1fr; gap: 4px 18px;
  margin: 10px 0; font-size: 13.5px; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere;
  font-family: ui-monospace, "Liberation Mono", monospace; font-size: 12.5px; }
footer { margin-top: 48px; color: var(--soft); font-size: 13px; }
/* A chart shrinks with the screen, and its words with it: on a phone they are drawn larger. */
@media (max-width: 700px) { main { padding: 20px 16px 40px; }
  .tile { flex-basis: calc(50% - 6px); }
  svg text { font-size: 17px; } svg.whiskers text { font-size: 19px; } }
@media print { main { max-width: none; padding: 0; } h2 { break-after: avoid; }
  figure, .tile { break-inside: avoid; } }
"""

# Values under the pointer: the nearest point of every line of the chart.
SCRIPT = """
const tip = document.getElementById("tip");
for (const svg of document.querySelectorAll("svg.chart")) {
  const cursor = svg.querySelector(".cursor");
  const lines = [...svg.querySelectorAll(".series")].map((g) => ({
    colour: g.getAttribute("class").split(" ")[1], name: g.dataset.name,
    at: g.dataset.at ? g.dataset.at.split(" ").map((p) => p.split(",").map(Number)) : [],
    text: g.dataset.text.split("|") }));
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    if (x < svg.dataset.left || x > svg.dataset.right) return leave();
    tip.replaceChildren();
    for (const line of lines) {
      let best = -1;
      line.at.forEach((p, i) => {
        if (best < 0 || Math.abs(p[0] - x) < Math.abs(line.at[best][0] - x)) best = i;
      });
      if (best < 0) continue;
      const row = document.createElement("div"), name = document.createElement("span");
      name.className = line.colour; name.textContent = line.name + "  ";
      row.append(name, line.text[best]);
      tip.append(row);
    }
    tip.style.display = "block";
    tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + "px";
    tip.style.top = Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8) + "px";
    cursor.setAttribute("x1", x); cursor.setAttribute("x2", x); cursor.style.opacity = 0.5;
  });
  const leave = () => { tip.style.display = "none"; cursor.style.opacity = 0; };
  svg.addEventListener("pointerleave", leave);
}
document.documentElement.dataset.ready = document.querySelectorAll("svg.chart").length;
"""
