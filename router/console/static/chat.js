// The chat box: streams an answer through the router, and tells how fast it came and from where.

import { ask, get } from "./api.js";
import { $, el, offer, setText } from "./dom.js";
import { count, NONE, seconds } from "./format.js";
import { routed } from "./decisions.js";

const MAX_TURNS = 20;
const turns = [];
let running = null;
let known = "";

const userKey = () => ($("#chat-key").value ? { "x-api-key": $("#chat-key").value } : {});

export function start() {
  $("#chat").addEventListener("submit", (event) => {
    event.preventDefault();
    if (running) running.abort();
    else send();
  });
  $("#question").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      if (!running) $("#chat").requestSubmit();
    }
  });
  $("#chat-key").addEventListener("change", () => { known = ""; });
  hint();
}

function hint() {
  if (!turns.length) $("#turns").replaceChildren(el("div", { class: "empty" }, el("p", {}, "Answers come through the router, as any client's do. Below each: how fast it was, and which worker gave it.")));
}

// Models as the API names them, aliases included; asked again when the fleet's own have changed.
export async function show({ models, needs_key: locked }) {
  $("#chat-key-label").hidden = !locked;
  const wanted = JSON.stringify([models, locked && $("#chat-key").value]);
  if (known === wanted || (locked && !$("#chat-key").value)) return;
  known = wanted;
  let names = models;
  try {
    const response = await ask("/console/chat/models", { more: userKey() });
    names = (await response.json()).data.map((each) => each.id);
  } catch {
    // Those of the fleet will do.
  }
  offer($("#chat-model"), names);
  $("#send").disabled = !names.length;
}

async function send() {
  const question = $("#question").value.trim();
  const model = $("#chat-model").value;
  if (!question || !model) return;
  if (!turns.length) $("#turns").replaceChildren();
  turns.push({ role: "user", content: question });
  const answer = { role: "assistant", content: "" };
  const [text, told] = [el("span"), el("span", { class: "told" }, "…")];
  $("#turns").append(el("div", { class: "turn user" }, question), el("div", { class: "turn" }, text, told));
  scroll();
  $("#question").value = "";
  running = new AbortController();
  setText($("#send"), "Stop");
  const asked = performance.now();
  const measured = { first: null, last: null, chunks: 0, tokens: null };
  let requestId = "";
  try {
    const response = await ask("/console/chat", {
      method: "POST", more: userKey(), signal: running.signal, body: { model, messages: turns.slice(-MAX_TURNS) },
    });
    requestId = response.headers.get("x-request-id") ?? "";
    for await (const event of events(response.body)) {
      if (event.error) throw new Error(event.error.message);
      if (event.usage) measured.tokens = event.usage.completion_tokens;
      const piece = event.choices?.[0]?.delta?.content;
      if (!piece) continue;
      measured.last = performance.now();
      measured.first ??= measured.last;
      measured.chunks += 1;
      answer.content += piece;
      setText(text, answer.content.trimStart());
      scroll();
    }
    setText(told, speed(asked, measured));
  } catch (error) {
    const stopped = error.name === "AbortError";
    setText(told, stopped ? `Stopped. ${speed(asked, measured)}` : error.message);
    told.classList.toggle("bad", !stopped);
  } finally {
    running = null;
    setText($("#send"), "Send");
    if (answer.content) turns.push(answer);
    else turns.pop();
  }
  if (requestId) await origin(requestId, told);
  scroll();
}

function speed(asked, { first, last, chunks, tokens }) {
  if (first === null) return "No token came.";
  const number = tokens ?? chunks;
  const rate = number > 1 && last > first ? ((number - 1) * 1e3) / (last - first) : null;
  return `${seconds((first - asked) / 1e3)} to the first token, ${rate === null ? NONE : count(rate)} tokens per second`;
}

async function origin(requestId, told) {
  try {
    const { decisions } = await get(`/console/decisions/${encodeURIComponent(requestId)}`);
    if (decisions.length) told.append(el("br"), `${routed(decisions[0])}: ${decisions[0].reason}`);
  } catch {
    // The answer is there; where it came from is a bonus.
  }
}

function scroll() {
  $("#turns").scrollTop = $("#turns").scrollHeight;
}

// Server-sent events with JSON in them.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const data = line.startsWith("data:") ? line.slice(5).trim() : "";
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}
