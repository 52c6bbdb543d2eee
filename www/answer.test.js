import assert from "node:assert/strict";
import { test } from "node:test";

import { byField, comparable, describe, difference, parseAnswer } from "./answer.js";

const credit = { task: "binary", output: { labels: [0, 1], positive: 1, width: 2, kind: "probability" } };

test("answers are compared without what differs from call to call", () => {
  const here = '{"prediction":0,"probability":0.23,"model_version":"1.0.0","inference_time_ms":0}';
  const there = '{"prediction":0,"probability":0.23,"model_version":"1.0.0","inference_time_ms":0.012,"id":"0198-7"}';
  assert.equal(comparable(here), '{"prediction":0,"probability":0.23,"model_version":"1.0.0"');
  assert.equal(difference(comparable(here), comparable(there)), null);
});

test("refusals are compared without their id", () => {
  const here = '{"type":"urn:modelet:problem:invalid-features","faults":[{"feature":"id","code":"missing"}]}';
  assert.equal(comparable(here), here);
  assert.equal(comparable(`${here.slice(0, -1)},"id":"say \\"7\\""}`), here);
});

test("a difference is found at its first character", () => {
  assert.deepEqual(difference('{"probability":0.23', '{"probability":0.24'), {
    at: 18,
    one: '{"probability":0.23',
    other: '{"probability":0.24',
  });
  assert.equal(difference("ab", "abc")?.at, 2);
});

test("an answer is told apart from a refusal", () => {
  assert.equal(parseAnswer('{"prediction":null}').prediction?.prediction, null);
  assert.equal(parseAnswer('{"status":422}').problem?.status, 422);
});

test("a binary answer shows both classes", () => {
  const shown = describe({ prediction: 0, probability: 0.25 }, credit);
  assert.equal(shown.headline, "0");
  assert.equal(shown.detail, "probability of 1: 25\u202f%");
  assert.deepEqual(shown.parts, [
    { label: "0", text: "75\u202f%", share: 0.75, chosen: true },
    { label: "1", text: "25\u202f%", share: 0.25, chosen: false },
  ]);
});

test("a multiclass answer keeps the order of the labels", () => {
  const info = { task: "multiclass", output: { labels: ["setosa", "10", "2"], width: 3, kind: "probability" } };
  const { parts, detail } = describe({ prediction: "2", probability: 0.5, probabilities: { setosa: 0.2, 2: 0.5, 10: 0.3 } }, info);
  assert.deepEqual(
    parts.map(({ label, share, chosen }) => [label, share, chosen]),
    [["setosa", 0.2, false], ["10", 0.3, false], ["2", 0.5, true]],
  );
  assert.equal(detail, "probability: 50\u202f%");
});

test("a number, decision scores and a vector", () => {
  const regression = { task: "regression", output: { width: 1, kind: "value" } };
  assert.deepEqual(describe({ prediction: 3.25 }, regression), { headline: "3.25", detail: "", parts: [] });
  assert.equal(describe({ prediction: null }, regression).headline, "no number");

  const svm = { task: "multiclass", output: { labels: ["a", "b"], width: 2, kind: "decision" } };
  const shown = describe({ prediction: "a", score: 1.5, scores: { a: 1.5, b: -2 } }, svm);
  assert.equal(shown.detail, "score: 1.5");
  assert.deepEqual(shown.parts[1], { label: "b", text: "\u22122", share: undefined, chosen: false });

  const embedding = describe({ prediction: [1, null] }, { task: "transform", output: { width: 2, kind: "value" } });
  assert.equal(embedding.headline, "2 numbers");
  assert.deepEqual(embedding.parts.map(({ text }) => text), ["1", "—"]);
});

test("complaints go to their fields, and the others stay together", () => {
  const age = { feature: "age", code: "range", message: "too old" };
  const unknown = { feature: "agee", code: "unknown", message: "no such feature" };
  const syntax = { code: "syntax", message: "the end" };
  const { byField: fields, others } = byField([age, unknown, syntax], (name) => name === "age");
  assert.deepEqual(fields, new Map([["age", [age]]]));
  assert.deepEqual(others, [unknown, syntax]);
});
