// Numbers and times for people. A figure that is not known is an en dash, never a zero. Units keep to
// their numbers: the space between is one that does not break.

export const NONE = "–";

export function count(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  const size = Math.abs(value);
  if (size >= 1e9) return `${(value / 1e9).toFixed(1)}G`;
  if (size >= 1e6) return `${(value / 1e6).toFixed(size >= 1e8 ? 0 : 1)}M`;
  if (size >= 1e4) return `${(value / 1e3).toFixed(size >= 1e5 ? 0 : 1)}k`;
  if (size >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString("en");
  return size >= 10 ? value.toFixed(1) : value.toFixed(size >= 1 ? 1 : 2);
}

// [number, unit], so that the unit can be set smaller.
export function secondsParts(value) {
  if (value === null || value === undefined) return [NONE, ""];
  if (value < 1) return [(value * 1e3).toFixed(value < 0.01 ? 1 : 0), "ms"];
  return [value < 10 ? value.toFixed(2) : value.toFixed(1), "s"];
}

// At an axis: 2.5 s, not 2.50 s.
export const secondsTick = (value) => (value < 1 ? `${Math.round(value * 1e3)}\u00a0ms` : `${Number(value.toFixed(2))}\u00a0s`);

export const seconds = (value) => secondsParts(value).join("\u00a0").trim();

export function percent(share, digits = 1) {
  if (share === null || share === undefined) return NONE;
  if (share >= 1) return "100\u00a0%";
  const shown = Math.min(share * 100, 100 - 10 ** -digits); // 99.96 % is not all
  return `${shown.toFixed(digits)}\u00a0%`;
}

export const clock = (time, withSeconds = true) =>
  new Date(time * 1e3).toLocaleTimeString("en-GB", withSeconds ? {} : { hour: "2-digit", minute: "2-digit" });

export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

// A name from a URL: the scheme is noise in a list of workers.
export const short = (name) => String(name).replace(/^https?:\/\//, "");
