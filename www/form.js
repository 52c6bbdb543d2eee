/**
 * From a signature to the fields of a form, and from what was typed into them
 * to a request. The text of a field is all its state: empty means no value.
 *
 * Nothing is checked here but whether a text is a number at all; what a value
 * must be is said by the model itself, once.
 *
 * @import { Bins, Category, Column, Feature, ModelInfo } from "./types.js"
 */

import { grouped } from "./format.js";

/**
 * One value to choose: the text of the field, what is shown, and the JSON that
 * is sent.
 *
 * @typedef {{ value: string, label: string, json: string }} Option
 */

/**
 * A field of the form.
 *
 * @typedef {object} Field
 * @property {string} name the feature's name
 * @property {"number" | "integer" | "choice" | "text"} kind
 * @property {boolean} checkbox a choice of exactly `true` and `false`
 * @property {boolean} nullable may be left empty
 * @property {boolean} open values besides the options are accepted too
 * @property {boolean} textual values besides the options are texts, not numbers
 * @property {boolean} single numbers become binary32 in the model
 * @property {Option[]} options
 * @property {number | undefined} min smallest allowed number
 * @property {number | undefined} max largest allowed number
 * @property {string} step the attribute of a number's input
 * @property {string} hint what the reference data has, and what is allowed
 * @property {string} example
 * @property {Column | undefined} column the feature's bins in the reference data
 */

/**
 * The fields of a model's form, in the order of its features.
 *
 * @param {ModelInfo} info
 * @returns {Field[]}
 */
export function fieldsOf(info) {
  return info.features.map((feature, index) => {
    const dtype = info.inputs[feature.input]?.dtype ?? "";
    return fieldOf(feature, dtype, info.reference?.columns?.[index]);
  });
}

/**
 * @param {Feature} feature
 * @param {string} dtype of the model's input
 * @param {Column | undefined} column
 * @returns {Field}
 */
function fieldOf(feature, dtype, column) {
  const textual = dtype === "string";
  /** @type {Field} */
  const field = {
    name: feature.name,
    kind: "number",
    checkbox: false,
    nullable: feature.nullable === true,
    open: false,
    textual: false,
    single: dtype === "float32",
    options: [],
    min: undefined,
    max: undefined,
    step: "any",
    hint: "",
    example: "",
    column,
  };
  switch (feature.type) {
    case "boolean":
      field.kind = "choice";
      field.checkbox = !field.nullable;
      field.options = ["false", "true"].map((text) => ({ value: text, label: text, json: text }));
      break;
    case "category":
      field.options = optionsOf(feature, textual);
      field.textual = textual;
      field.open = feature.closed !== true && (textual || Object.keys(feature.encoding ?? {}).length === 0);
      field.kind = field.options.length > 0 ? "choice" : textual ? "text" : "number";
      break;
    default:
      field.kind = feature.type;
      field.step = feature.type === "integer" ? "1" : "any";
      field.min = feature.allowed?.min;
      field.max = feature.allowed?.max;
      field.hint = rangeHint(feature);
  }
  if (field.nullable) field.hint = [field.hint, "may be empty"].filter(Boolean).join("; ");
  field.example = exampleOf(field, feature);
  return field;
}

/**
 * @param {Feature} feature
 * @param {boolean} textual
 * @returns {Option[]}
 */
function optionsOf(feature, textual) {
  const encoding = Object.keys(feature.encoding ?? {});
  /** @type {Category[]} */
  const listed = !textual && encoding.length > 0 ? encoding : (feature.categories ?? []);
  return listed.map((category) => ({
    value: String(category),
    label: category === "" ? "(empty text)" : String(category),
    json: JSON.stringify(category),
  }));
}

/** @param {Feature} feature */
function rangeHint({ seen, allowed }) {
  const sentences = [];
  const inWords = (/** @type {import("./types.js").Range} */ { min, max }) => {
    if (min !== undefined && max !== undefined) return min === max ? `${short(min)}` : `${short(min)} to ${short(max)}`;
    return min !== undefined ? `from ${short(min)}` : `up to ${short(max ?? 0)}`;
  };
  const given = (/** @type {import("./types.js").Range | undefined} */ range) =>
    range !== undefined && (range.min !== undefined || range.max !== undefined);
  if (seen && given(seen)) sentences.push(`seen ${inWords(seen)}`);
  if (allowed && given(allowed)) sentences.push(`allowed ${inWords(allowed)}`);
  return sentences.join("; ");
}

/** @param {number} value */
function short(value) {
  return grouped(String(Number(value.toPrecision(6))));
}

/**
 * @param {Field} field
 * @param {Feature} feature
 */
function exampleOf(field, feature) {
  if (typeof feature.example === "number") return textOf(field, exact(field, feature.example));
  if (feature.example !== undefined) return textOf(field, feature.example);
  const middle = middleOf(field);
  if (middle !== undefined) return middle;
  if (field.kind === "choice") return field.options[0]?.value ?? "";
  if (field.kind === "text") return "";
  const { min, max } = feature.seen ?? feature.allowed ?? {};
  if (min !== undefined && max !== undefined) return rounded(field, (min + max) / 2, max - min);
  return String(min ?? max ?? 0);
}

/**
 * A value as the text of a field; a code stands for the name that callers send.
 *
 * @param {Field} field
 * @param {Category | boolean} value
 */
function textOf(field, value) {
  if (field.kind === "choice" && field.options.some((option) => option.value === "true")) {
    if (value === 1) return "true";
    if (value === 0) return "false";
  }
  return String(value);
}

/**
 * A typical value: the median, or the most frequent category.
 *
 * @param {Field} field
 */
function middleOf(field) {
  const bins = ordinaryBins(field);
  const total = bins.reduce((sum, bin) => sum + bin.count, 0);
  if (total === 0) return undefined;
  if (field.column?.bins.type === "categorical") {
    return bins.reduce((most, bin) => (bin.count > most.count ? bin : most)).at("start");
  }
  let before = 0;
  for (const bin of bins) {
    before += bin.count;
    if (before * 2 >= total) return bin.at("start");
  }
  return undefined;
}

/**
 * The bins that hold the reference data's values, with their counts and a way
 * to get a value of each.
 *
 * @param {Field} field
 * @returns {{ count: number, at: (where: "start" | number) => string }[]}
 */
function ordinaryBins(field) {
  const { bins, counts } = field.column ?? {};
  if (bins === undefined || counts === undefined || counts.length === 0) return [];
  if (bins.type === "categorical") {
    return bins.values
      .map((value, index) => ({ value: textOf(field, value), count: counts[index] ?? 0 }))
      .filter(({ value }) => field.kind !== "choice" || field.options.some((option) => option.value === value))
      .map(({ value, count }) => ({ count, at: () => value }));
  }
  const starts = [bins.min, ...bins.cuts];
  return starts.map((start, index) => {
    const end = starts[index + 1] ?? bins.max;
    return {
      count: counts[index + 1] ?? 0,
      at: (where) => {
        if (field.kind === "choice") return textOf(field, start);
        return where === "start" ? textOf(field, exact(field, start)) : rounded(field, start + where * (end - start), end - start);
      },
    };
  });
}

/**
 * A number without the digits that binary32 brought.
 *
 * @param {Field} field
 * @param {number} value
 */
function exact({ single }, value) {
  const seven = Number(value.toPrecision(7));
  return single && Math.fround(seven) === Math.fround(value) ? seven : value;
}

/**
 * A number with as many digits as the width of its surroundings is worth.
 *
 * @param {Field} field
 * @param {number} value
 * @param {number} width
 */
function rounded(field, value, width) {
  if (field.kind === "integer") return String(Math.floor(value));
  if (!(width > 0)) return String(exact(field, value));
  const step = 10 ** Math.floor(Math.log10(width / 20));
  const digits = Math.min(20, Math.max(0, -Math.round(Math.log10(step))));
  return String(Number((Math.round(value / step) * step).toFixed(digits)));
}

/**
 * The texts of the example record.
 *
 * @param {Field[]} fields
 * @returns {Map<string, string>}
 */
export function exampleTexts(fields) {
  return new Map(fields.map((field) => [field.name, field.example]));
}

/**
 * The texts of a record whose values each occur as often as in the reference
 * data. Features are drawn one by one: the record as a whole need not be a
 * likely one.
 *
 * @param {Field[]} fields
 * @param {() => number} random from 0 to below 1
 * @returns {Map<string, string>}
 */
export function randomTexts(fields, random) {
  return new Map(fields.map((field) => [field.name, randomText(field, random)]));
}

/**
 * @param {Field} field
 * @param {() => number} random
 */
function randomText(field, random) {
  const bins = ordinaryBins(field);
  const missing = field.nullable ? missingCount(field.column) : 0;
  const total = bins.reduce((sum, bin) => sum + bin.count, missing);
  if (total === 0) {
    if (field.kind !== "choice") return field.example;
    return field.options[Math.floor(random() * field.options.length)]?.value ?? field.example;
  }
  let at = random() * total - missing;
  if (at < 0) return "";
  for (const bin of bins) {
    if (at < bin.count) return bin.at(random());
    at -= bin.count;
  }
  return field.example;
}

/** @param {Column | undefined} column */
function missingCount(column) {
  if (column?.counts === undefined) return 0;
  /** @type {Bins} */
  const bins = column.bins;
  const ordinary = bins.type === "numeric" ? bins.cuts.length + 3 : bins.values.length + 1;
  return column.counts[ordinary] ?? 0;
}

/**
 * The body of a request. A number is sent with the digits that were typed: to
 * read and write it here would hide that it overflows.
 *
 * @param {Field[]} fields
 * @param {Map<string, string>} texts
 * @returns {{ body: string, faults: Map<string, string> }} faults by the
 *   feature's name: texts that JSON cannot say; they are left out of the body
 */
export function requestOf(fields, texts) {
  const members = [];
  /** @type {Map<string, string>} */
  const faults = new Map();
  for (const field of fields) {
    const text = texts.get(field.name) ?? "";
    const json = jsonOf(field, text);
    if (json === undefined) {
      faults.set(field.name, `${JSON.stringify(text)} is not a number`);
    } else if (json !== "") {
      members.push(`${JSON.stringify(field.name)}:${json}`);
    }
  }
  return { body: `{"features":{${members.join(",")}}}`, faults };
}

/**
 * A text as JSON; empty where nothing is to be sent.
 *
 * @param {Field} field
 * @param {string} text
 */
function jsonOf(field, text) {
  const option = field.options.find(({ value }) => value === text);
  if (option !== undefined) return option.json;
  if (text === "") return field.nullable ? "null" : "";
  if (field.textual) return JSON.stringify(text);
  return jsonNumber(text);
}

/**
 * A number's text as JSON writes numbers.
 *
 * @param {string} text
 */
export function jsonNumber(text) {
  const trimmed = text.trim();
  if (/^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/.test(trimmed)) return trimmed;
  if (!/^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(trimmed)) return undefined;
  const number = Number(trimmed);
  return Number.isFinite(number) ? String(number) : undefined;
}
