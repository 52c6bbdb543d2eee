import assert from "node:assert/strict";
import { test } from "node:test";

import { count, counted, curl, duration, exactly, faultText, grouped, probability, shellQuoted, significant, size } from "./format.js";

/** Narrow spaces made wide, so that expectations can be read. */
function plain(text) {
  return text.replaceAll("\u202f", " ");
}

test("probabilities keep apart from 0 and 1", () => {
  for (const [value, text] of [
    [0, "0 %"],
    [1e-7, "< 0.01 %"],
    [0.0005, "0.05 %"],
    [0.0123, "1.2 %"],
    [0.2345, "23.4 %"],
    [0.5, "50 %"],
    [0.9999, "99.99 %"],
    [0.9999999, "> 99.99 %"],
    [1, "100 %"],
    [Number.NaN, "NaN"],
  ]) {
    assert.equal(plain(probability(value)), text);
  }
});

test("durations have the unit that suits them", () => {
  for (const [ms, text] of [
    [0, "0 ms"],
    [0.00085, "850 ns"],
    [0.0031234, "3.12 µs"],
    [0.9999999, "1 ms"],
    [2.4, "2.4 ms"],
    [999.6, "1 s"],
    [12_345, "12.3 s"],
    [Number.NaN, "—"],
  ]) {
    assert.equal(plain(duration(ms)), text);
  }
});

test("sizes and counts", () => {
  assert.deepEqual([7, 999, 1000, 766_123, 11_400_000].map((bytes) => plain(size(bytes))), [
    "7 B",
    "999 B",
    "1 kB",
    "766 kB",
    "11.4 MB",
  ]);
  assert.deepEqual([0, 999, 1000, 1234567].map((value) => plain(count(value))), ["0", "999", "1 000", "1 234 567"]);
  assert.deepEqual(["-12345.6789", "0.123456", "1e+21", "1234e5"].map((text) => plain(grouped(text))), [
    "-12 345.6789",
    "0.123456",
    "1e+21",
    "1234e5",
  ]);
  assert.deepEqual([0, 1, 20].map((value) => counted(value, "feature")), ["0 features", "1 feature", "20 features"]);
});

test("values have all their digits, scores five", () => {
  assert.equal(exactly(0.30000000000000004), "0.30000000000000004");
  assert.equal(exactly(-2), "\u22122");
  assert.equal(exactly("no-show"), "no-show");
  assert.equal(significant(1234.5678), "1234.6");
  assert.equal(significant(-0.000012345678), "\u22120.000012346");
});

test("a fault says what would be accepted, once", () => {
  assert.equal(faultText({ code: "missing", message: "a value is required", accepted: "a number" }), "a value is required; accepted: a number");
  assert.equal(faultText({ code: "type", message: "expected a number but got null", accepted: "a number" }), "expected a number but got null");
  assert.equal(faultText({ code: "syntax", message: "unexpected end" }), "unexpected end");
});

test("a command can be pasted into a shell", () => {
  assert.equal(shellQuoted("http://127.0.0.1:3000/predict"), "http://127.0.0.1:3000/predict");
  assert.equal(shellQuoted("http://[::1]:3000/predict"), "'http://[::1]:3000/predict'");
  assert.equal(shellQuoted("it's"), "'it'\\''s'");
  assert.equal(
    curl("http://localhost/predict", '{"features":{"a":1}}'),
    "curl -s http://localhost/predict -H 'content-type: application/json' -d '{\"features\":{\"a\":1}}'",
  );
});
