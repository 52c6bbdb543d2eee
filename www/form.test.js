import assert from "node:assert/strict";
import { test } from "node:test";

import { exampleTexts, fieldsOf, jsonNumber, randomTexts, requestOf } from "./form.js";

/** A manifest with these features, each with its input's type and its column of the reference. */
function info(...features) {
  return {
    features: features.map(({ dtype: _, column: __, ...feature }, index) => ({ input: index, column: 0, ...feature })),
    inputs: features.map(({ dtype = "float32" }) => ({ name: "x", dtype, shape: [1] })),
    reference: { rows: 0, columns: features.map(({ column }) => column) },
  };
}

/** The only field of a manifest with one feature. */
function fieldOf(feature) {
  return fieldsOf(info({ name: "f", ...feature }))[0];
}

/** Counts of numeric bins: below, inside, above, missing, unseen, not finite. */
function numeric(min, cuts, max, inside, missing = 0) {
  return { name: "f", bins: { type: "numeric", min, cuts, max }, counts: [0, ...inside, 0, missing, 0, 0] };
}

test("a number has the allowed range as its limits and says what was seen", () => {
  const field = fieldOf({ type: "number", seen: { min: 18.5, max: 80 }, allowed: { min: 18 } });
  assert.equal(field.kind, "number");
  assert.deepEqual([field.min, field.max, field.step], [18, undefined, "any"]);
  assert.equal(field.hint, "seen 18.5 to 80; allowed from 18");
});

test("an integer goes by steps of one, and a nullable field may be empty", () => {
  const field = fieldOf({ type: "integer", nullable: true });
  assert.deepEqual([field.kind, field.step, field.hint], ["integer", "1", "may be empty"]);
});

test("a boolean is a checkbox, unless it may be missing", () => {
  const field = fieldOf({ type: "boolean" });
  assert.equal(field.checkbox, true);
  assert.deepEqual(
    field.options.map(({ json }) => json),
    ["false", "true"],
  );
  assert.equal(fieldOf({ type: "boolean", nullable: true }).checkbox, false);
});

test("a category offers the names that callers send", () => {
  for (const [feature, values, open] of [
    [{ encoding: { car: 1, medical: 5 }, categories: [1, 5] }, ["car", "medical"], false],
    [{ categories: ["north", "south"], dtype: "string", closed: true }, ["north", "south"], false],
    [{ categories: ["north", "south"], dtype: "string" }, ["north", "south"], true],
    [{ categories: [1, 2.5], closed: true }, ["1", "2.5"], false],
    [{ categories: [1, 2.5] }, ["1", "2.5"], true],
  ]) {
    const field = fieldOf({ type: "category", ...feature });
    assert.equal(field.kind, "choice");
    assert.deepEqual(
      field.options.map(({ value }) => value),
      values,
    );
    assert.equal(field.open, open, JSON.stringify(feature));
  }
});

test("a category of which nothing is known is a text or a number, as the model takes it", () => {
  assert.equal(fieldOf({ type: "category", dtype: "string" }).kind, "text");
  assert.equal(fieldOf({ type: "category", dtype: "int64" }).kind, "number");
});

test("an example is the given one, else what is typical of the reference data", () => {
  for (const [feature, example] of [
    [{ type: "number", example: 0.35 }, "0.35"],
    [{ type: "number", example: 0.33050000667572 }, "0.3305"],
    [{ type: "number", example: 0.33050000667572, dtype: "float64" }, "0.33050000667572"],
    [{ type: "number", column: numeric(0, [1, 2, 3], 4, [1, 1, 5, 1]) }, "2"],
    // 0.1 as binary32 had it.
    [{ type: "number", column: numeric(0.10000000149011612, [], 1, [3]) }, "0.1"],
    [{ type: "number", seen: { min: 10, max: 20 } }, "15"],
    [{ type: "integer", seen: { min: 0, max: 7 } }, "3"],
    [{ type: "number", allowed: { min: 18 } }, "18"],
    [{ type: "number" }, "0"],
    [{ type: "boolean", column: numeric(0, [1], 1, [1, 4]) }, "true"],
    [{ type: "boolean", example: 0 }, "false"],
    [{ type: "category", encoding: { a: 0, b: 1 } }, "a"],
    [
      {
        type: "category",
        categories: ["a", "b"],
        dtype: "string",
        column: { bins: { type: "categorical", values: ["b", "a"] }, counts: [7, 2, 0, 0, 0, 0] },
      },
      "b",
    ],
  ]) {
    assert.equal(fieldOf(feature).example, example, JSON.stringify(feature));
  }
});

test("random values are drawn from the bins of the reference data", () => {
  const fields = fieldsOf(
    info(
      { name: "n", type: "number", column: numeric(0, [10], 20, [0, 1]) },
      { name: "i", type: "integer", column: numeric(3, [], 3, [5]) },
      { name: "m", type: "number", nullable: true, column: numeric(0, [], 1, [1], 3) },
      { name: "c", type: "category", encoding: { a: 0, b: 1 } },
    ),
  );
  assert.deepEqual([...randomTexts(fields, () => 0.5)], [["n", "15"], ["i", "3"], ["m", ""], ["c", "b"]]);
  for (let i = 0; i < 100; i += 1) {
    const n = Number(randomTexts(fields, Math.random).get("n"));
    assert.ok(n >= 10 && n <= 20, `${n}`);
  }
});

test("a request has the features in order, with the digits that were typed", () => {
  const fields = fieldsOf(
    info(
      { name: "income", type: "number" },
      { name: "say \"hi\"", type: "number" },
      { name: "age", type: "integer", nullable: true },
      { name: "owns", type: "boolean" },
      { name: "region", type: "category", categories: ["1", "south"], dtype: "string" },
      { name: "code", type: "category", categories: [7] },
    ),
  );
  const texts = new Map([
    ["income", "75000.10"],
    ["say \"hi\"", "1e400"],
    ["age", ""],
    ["owns", "true"],
    ["region", "1"],
    ["code", "8"],
  ]);
  assert.deepEqual(requestOf(fields, texts), {
    body: '{"features":{"income":75000.10,"say \\"hi\\"":1e400,"age":null,"owns":true,"region":"1","code":8}}',
    faults: new Map(),
  });
});

test("what is empty is left out, and what is no number is told", () => {
  const fields = fieldsOf(info({ name: "a", type: "number" }, { name: "b", type: "number" }, { name: "c", type: "number" }));
  const { body, faults } = requestOf(fields, new Map([["a", "much"], ["c", " 1 "]]));
  assert.equal(body, '{"features":{"c":1}}');
  assert.deepEqual([...faults.keys()], ["a"]);
});

test("the example of a form can be sent", () => {
  const fields = fieldsOf(info({ name: "a", type: "number", example: -1.5 }, { name: "b", type: "boolean" }));
  assert.equal(requestOf(fields, exampleTexts(fields)).body, '{"features":{"a":-1.5,"b":false}}');
});

test("numbers are written as JSON writes them", () => {
  for (const [text, json] of [
    ["0", "0"],
    ["-0", "-0"],
    ["1.50", "1.50"],
    ["1E+3", "1E+3"],
    [".5", "0.5"],
    ["+5", "5"],
    ["007", "7"],
    ["5.", "5"],
    ["1e400", "1e400"],
    ["", undefined],
    ["1,5", undefined],
    ["0x10", undefined],
    ["Infinity", undefined],
    ["NaN", undefined],
    [".5e999", undefined],
  ]) {
    assert.equal(jsonNumber(text), json, text);
  }
});
