// Requests to the admin API. The key lives in this tab's storage and goes into a header.

const STORED = "shoal.admin-key";
const TIMEOUT_MS = 6000;

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function setKey(key) {
  sessionStorage.setItem(STORED, key);
}

function headers(more) {
  const key = sessionStorage.getItem(STORED);
  return key ? { ...more, authorization: `Bearer ${key}` } : more;
}

// A response that is good; else raises Refused with the server's own words.
export async function ask(path, { method = "GET", body, more = {}, signal } = {}) {
  const response = await fetch(path, {
    method,
    headers: headers(body === undefined ? more : { ...more, "content-type": "application/json" }),
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: signal ?? AbortSignal.timeout(TIMEOUT_MS),
    cache: "no-store",
    credentials: "omit",
  });
  if (response.ok) return response;
  let message = `The router answered ${response.status}.`;
  try {
    message = (await response.json()).error.message ?? message;
  } catch {
    // No JSON: the status says enough.
  }
  throw new Refused(response.status, message);
}

export const get = async (path) => (await ask(path)).json();
export const post = (path) => ask(path, { method: "POST", body: {} });
