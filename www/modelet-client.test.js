import assert from "node:assert/strict";
import { test } from "node:test";

import { PredictionError, load, readManifest } from "./modelet-client.js";

/** A bundle of sections, as the crate's `bundle` lays it out. */
function bundle(sections, { version = 1 } = {}) {
  const aligned = (at) => Math.ceil(at / 16) * 16;
  let end = aligned(16 + 24 * sections.length);
  const table = sections.map(([kind, text]) => {
    const bytes = new TextEncoder().encode(text);
    const offset = end;
    end = aligned(offset + bytes.length);
    return { kind, bytes, offset };
  });
  const out = new Uint8Array(end);
  const view = new DataView(out.buffer);
  out.set(new TextEncoder().encode("MODELET\0"));
  view.setUint32(8, version, true);
  view.setUint32(12, sections.length, true);
  for (const [index, { kind, bytes, offset }] of table.entries()) {
    const at = 16 + 24 * index;
    view.setUint32(at, kind, true);
    view.setBigUint64(at + 8, BigInt(offset), true);
    view.setBigUint64(at + 16, BigInt(bytes.length), true);
    out.set(bytes, offset);
  }
  return out;
}

test("the manifest is found among the sections, wherever the bytes lie", () => {
  const bytes = bundle([[4, "{}"], [1, '{"engine":"neural","name":"é"}']]);
  assert.deepEqual(readManifest(bytes), { engine: "neural", name: "é" });
  const inside = new Uint8Array(bytes.length + 3);
  inside.set(bytes, 3);
  assert.deepEqual(readManifest(inside.subarray(3)), { engine: "neural", name: "é" });
});

test("what is no bundle is refused with the reason", () => {
  const good = bundle([[1, '{"engine":"tabular"}']]);
  for (const [bytes, reason] of [
    [new Uint8Array(), /not a modelet bundle/],
    [new TextEncoder().encode("<!doctype html><title>404</title>"), /not a modelet bundle/],
    [bundle([[1, "{}"]], { version: 2 }), /expected 1 but got 2/],
    [bundle([[2, "program"]]), /no manifest/],
    [good.subarray(0, good.length - 16), /truncated/],
  ]) {
    assert.throws(() => readManifest(bytes), reason);
  }
});

test("an engine that is not there is named", async () => {
  const bytes = bundle([[1, '{"engine":"tabular"}']]);
  await assert.rejects(load({ bundle: bytes, module: "./missing/modelet.js" }), /cannot load the engine from .*missing\/modelet\.js/);
});

test("a refusal carries its faults", () => {
  const faults = [{ feature: "age", code: "missing", message: "a value is required" }];
  const error = new PredictionError({ type: "t", title: "Refused", status: 422, detail: "1 fault", faults });
  assert.equal(error.message, "1 fault");
  assert.deepEqual(error.faults, faults);
  assert.deepEqual(new PredictionError({ type: "t", title: "Refused", status: 400, detail: "" }).faults, []);
});
