/**
 * Numbers, durations and commands as people read them.
 *
 * @import { Fault } from "./types.js"
 */

/**
 * A value with all its digits.
 *
 * @param {number | string | boolean} value
 */
export function exactly(value) {
  return typeof value === "number" ? String(value).replace("-", "\u2212") : String(value);
}

/**
 * A number with at most five significant digits.
 *
 * @param {number} value
 */
export function significant(value) {
  if (!Number.isFinite(value)) return String(value);
  return exactly(Number(value.toPrecision(5)));
}

/**
 * A probability in per cent. One that is neither 0 nor 1 does not look as if.
 *
 * @param {number} value
 */
export function probability(value) {
  if (!Number.isFinite(value)) return String(value);
  const percent = value * 100;
  if (percent > 0 && percent < 0.01) return "< 0.01\u202f%";
  if (percent < 100 && percent > 99.99) return "> 99.99\u202f%";
  const digits = percent < 1 || percent > 99 ? 2 : 1;
  return `${Number(percent.toFixed(digits))}\u202f%`;
}

/**
 * @param {number} ms
 */
export function duration(ms) {
  if (!(ms >= 0)) return "—";
  if (ms === 0) return "0\u202fms";
  for (const [unit, size] of /** @type {const} */ ([["ns", 1e-6], ["µs", 1e-3], ["ms", 1]])) {
    const count = Number((ms / size).toPrecision(3));
    if (count < 1000) return `${count}\u202f${unit}`;
  }
  return `${Number((ms / 1000).toPrecision(3))}\u202fs`;
}

/**
 * @param {number} bytes
 */
export function size(bytes) {
  for (const [unit, size] of /** @type {const} */ ([["B", 1], ["kB", 1e3], ["MB", 1e6]])) {
    const count = Number((bytes / size).toPrecision(3));
    if (count < 1000) return `${count}\u202f${unit}`;
  }
  return `${Number((bytes / 1e9).toPrecision(3))}\u202fGB`;
}

/**
 * A number's text with its thousands apart.
 *
 * @param {string} text
 */
export function grouped(text) {
  return text.replace(/^-?\d{4,}(?=$|\.)/, (digits) => digits.replace(/\B(?=(\d{3})+$)/g, "\u202f"));
}

/**
 * A whole number with its thousands apart.
 *
 * @param {number} value
 */
export function count(value) {
  return grouped(String(value));
}

/**
 * A count with its noun.
 *
 * @param {number} value
 * @param {string} noun
 */
export function counted(value, noun) {
  return `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
}

/**
 * What is wrong, and what would be right.
 *
 * @param {Fault} fault
 */
export function faultText({ message, accepted }) {
  const wanted = accepted !== undefined && !message.includes(accepted) ? `; accepted: ${accepted}` : "";
  return `${message}${wanted}`;
}

/**
 * The text as a POSIX shell reads it back.
 *
 * @param {string} text
 */
export function shellQuoted(text) {
  return /^[A-Za-z0-9\-_.\/:=,+@%]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/**
 * The command that sends this request.
 *
 * @param {string} url
 * @param {string} body
 */
export function curl(url, body) {
  return `curl -s ${shellQuoted(url)} -H 'content-type: application/json' -d ${shellQuoted(body)}`;
}
