/**
 * What an answer's text says: for people, and held against another home's.
 *
 * @import { Fault, ModelInfo, Prediction, Problem, Warning } from "./types.js"
 */

import { exactly, probability, significant } from "./format.js";

/**
 * The part of an answer that is the same in every home: what comes before the
 * time that it took, and before the id.
 *
 * @param {string} text
 */
export function comparable(text) {
  const end = text.lastIndexOf(',"inference_time_ms":');
  return end >= 0 ? text.slice(0, end) : text.replace(/,"id":"(?:[^"\\]|\\.)*"\}$/, "}");
}

/**
 * Where two texts part, with a little of what is around it.
 *
 * @param {string} one
 * @param {string} other
 * @returns {{ at: number, one: string, other: string } | null} null if they are equal
 */
export function difference(one, other) {
  if (one === other) return null;
  let at = 0;
  while (at < one.length && one[at] === other[at]) at += 1;
  const around = (/** @type {string} */ text) => text.slice(Math.max(0, at - 20), at + 20);
  return { at, one: around(one), other: around(other) };
}

/**
 * An answer, told apart from a refusal.
 *
 * @param {string} text
 * @returns {{ prediction: Prediction, problem?: undefined } | { problem: Problem, prediction?: undefined }}
 */
export function parseAnswer(text) {
  const value = JSON.parse(text);
  return "prediction" in value ? { prediction: value } : { problem: value };
}

/**
 * A named part of an answer, with its share of 1 where it has one.
 *
 * @typedef {{ label: string, text: string, share: number | undefined, chosen: boolean }} Part
 */

/**
 * An answer in words and numbers.
 *
 * @param {Prediction} prediction
 * @param {ModelInfo} info
 * @returns {{ headline: string, detail: string, parts: Part[] }}
 */
export function describe(prediction, info) {
  const { prediction: value } = prediction;
  const vector = Array.isArray(value);
  return {
    headline: vector ? `${value.length} numbers` : value === null ? "no number" : exactly(value),
    detail: detailOf(prediction, info),
    parts: vector
      ? value.map((number, index) => ({ label: String(index), text: number === null ? "—" : exactly(number), share: undefined, chosen: false }))
      : partsOf(prediction, info),
  };
}

/**
 * @param {Prediction} prediction
 * @param {ModelInfo} info
 */
function detailOf(prediction, { task, output }) {
  const positive = output.labels?.[output.positive ?? -1];
  const which = task === "binary" && positive !== undefined ? ` of ${positive}` : "";
  if (typeof prediction.probability === "number") return `probability${which}: ${probability(prediction.probability)}`;
  if (typeof prediction.score === "number") return `score${which}: ${significant(prediction.score)}`;
  return "";
}

/**
 * @param {Prediction} prediction
 * @param {ModelInfo} info
 * @returns {Part[]}
 */
function partsOf(prediction, { task, output }) {
  const { probability: one, probabilities, scores } = prediction;
  const chosen = String(prediction.prediction);
  if (task === "binary" && typeof one === "number" && output.labels?.length === 2) {
    const positive = output.positive ?? 1;
    return output.labels.map((label, index) => {
      const share = index === positive ? one : 1 - one;
      return { label: String(label), text: probability(share), share, chosen: String(label) === chosen };
    });
  }
  const all = probabilities ?? scores;
  if (all === undefined) return [];
  // Integer-like names do not keep their order in an object; labels do.
  const labels = Array.isArray(all) ? all.map((_, index) => String(index)) : (output.labels?.map(String) ?? Object.keys(all));
  return labels.map((label, index) => {
    const number = Array.isArray(all) ? all[index] : all[label];
    const share = probabilities !== undefined && typeof number === "number" ? number : undefined;
    const text = typeof number !== "number" ? "—" : share === undefined ? significant(number) : probability(share);
    return { label, text, share, chosen: label === chosen };
  });
}

/**
 * @template {Fault | Warning} T
 * @param {T[]} complaints
 * @param {(name: string) => boolean} isField
 * @returns {{ byField: Map<string, T[]>, others: T[] }} others belong to no field
 */
export function byField(complaints, isField) {
  /** @type {Map<string, T[]>} */
  const fields = new Map();
  /** @type {T[]} */
  const others = [];
  for (const complaint of complaints) {
    const name = complaint.feature;
    if (name === undefined || !isField(name)) {
      others.push(complaint);
      continue;
    }
    const list = fields.get(name);
    if (list === undefined) fields.set(name, [complaint]);
    else list.push(complaint);
  }
  return { byField: fields, others };
}
