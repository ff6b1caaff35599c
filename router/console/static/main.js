// Asks for data every two seconds while somebody looks, and hands them to the parts of the page.

import { get, setKey } from "./api.js";
import * as charts from "./charts.js";
import * as chat from "./chat.js";
import { showRouting, showScaling } from "./decisions.js";
import { $, offer, setText } from "./dom.js";
import * as figures from "./figures.js";
import * as fleet from "./fleet.js";
import { plural } from "./format.js";
import { Series } from "./series.js";

const INTERVAL_MS = 2000;
const MAX_WAIT_MS = 10000;
const router = new Series();
const scaling = new Series();
let scaled = "";
let data = null;
let failures = 0;
let timer = 0;
let turn = 0;

const model = () => $("#model").value;
const span = () => Number($("#range :checked").value);

async function look() {
  clearTimeout(timer);
  const mine = ++turn;
  const query = new URLSearchParams({ model: model(), since: router.last, scaling_since: scaling.last });
  const [found, error] = await get(`/console/data?${query}`).then((body) => [body], (reason) => [null, reason]);
  if (mine !== turn) return; // another model was chosen meanwhile
  failures = error ? failures + 1 : 0;
  const wait = Math.min(INTERVAL_MS * 2 ** Math.min(failures, 3), MAX_WAIT_MS);
  if (!document.hidden && error?.status !== 401) timer = setTimeout(look, wait);
  if (error) refused(error);
  else take(found);
}

function take(found) {
  data = found;
  $("#gate").hidden = true;
  $("#main").hidden = false;
  $("#trouble").hidden = true;
  $("#main").classList.remove("stale", "waiting");
  router.append(found.points);
  const of = found.scaling?.history_of ?? "";
  if (of !== scaled) {
    scaled = of;
    scaling.clear();
  }
  scaling.appendPoints(found.scaling?.history ?? []);
  choices(found.models);
  summary(found);
  figures.show(found);
  draw();
  fleet.show(found);
  showScaling(found);
  showRouting(found);
  chat.show(found);
}

function draw() {
  if (data) charts.show({ router, scaling, now: data.now, span: span(), target: data.target_s });
}

function refused(error) {
  if (error.status === 401) {
    $("#main").hidden = true;
    $("#gate").hidden = false;
    setText($("#summary"), "Locked");
    $("#admin-key").focus();
  }
  const trouble = $("#trouble");
  // Without a key there is nothing wrong yet.
  trouble.hidden = error.status === 401 && !sessionStorage.length;
  setText(trouble, error.status ? error.message : "The router does not answer. Trying again.");
  $("#main").classList.add("stale");
}

function choices(models) {
  const select = $("#model");
  const names = ["", ...models];
  if (names.join("\n") === [...select.options].map((option) => option.value).join("\n")) return;
  const chosen = select.value;
  offer(select, names);
  if (select.value !== chosen) select.dispatchEvent(new Event("change")); // the model has gone
}

function summary({ endpoints, models, status, version }) {
  const ready = endpoints.filter((worker) => worker.status === "ready").length;
  const router = status === "ready" ? "" : `Router ${status}. `;
  setText($("#summary"), `${router}${ready} of ${plural(endpoints.length, "worker")} ready, ${plural(models.length, "model")}`);
  setText($("#version"), `Shoal ${version}`);
}

figures.start();
charts.start();
chat.start();
fleet.start(look);
$("#model").addEventListener("change", () => {
  router.clear();
  scaling.clear();
  look();
});
$("#range").addEventListener("change", draw);
$("#gate").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey($("#admin-key").value.trim());
  $("#admin-key").value = "";
  look();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) look();
});
look();
