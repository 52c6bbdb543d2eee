import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

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

/** A model that counts its answers as the module does. */
async function countingEngine(t) {
  const folder = await mkdtemp(join(tmpdir(), "modelet-"));
  t.after(() => rm(folder, { recursive: true }));
  const file = join(folder, "modelet.mjs");
  const source = `export default async () => {};
    export class Model {
      sha256 = "00"; goldenRows = 0; pending = 0; sent = 0; sequence = 0;
      info() { return {}; }
      predictText(body, trial) { if (!trial && this.instance) this.pending += 1; return body; }
      collect(instance) { this.instance = instance; }
      observations() {
        if (!this.sent && this.pending) { this.sent = this.pending; this.pending = 0; this.sequence += 1; }
        return this.sent ? JSON.stringify({ instance: this.instance, sequence: this.sequence, rows: this.sent }) : undefined;
      }
      observed() { this.sent = 0; }
      verify() { return []; }
      free() {}
    }`;
  await writeFile(file, source);
  return load({ bundle: bundle([[1, '{"engine":"tabular"}']]), module: pathToFileURL(file) });
}

test("observations are sent when they are asked for, again until they arrive, and no trial is counted", async (t) => {
  /** @type {{ url: string, body: any }[]} */
  const posts = [];
  let status = 202;
  t.mock.method(globalThis, "fetch", async (/** @type {URL} */ url, /** @type {RequestInit} */ { method, body }) => {
    assert.equal(method, "POST");
    posts.push({ url: url.href, body: JSON.parse(String(body)) });
    if (status === 0) throw new TypeError("no connection");
    return { status };
  });
  const model = await countingEngine(t);
  await model.predictText("a");
  assert.equal(await model.flush(), true);
  assert.equal(posts.length, 0, "nothing is sent unasked");

  await model.report("http://127.0.0.1:3000/fleet/", 60_000);
  await model.predictText("a");
  await model.predictTimed("a");
  status = 0;
  assert.equal(await model.flush(), false);
  await model.predictText("a");
  status = 503;
  assert.equal(await model.flush(), false);
  status = 202;
  assert.equal(await model.flush(), true);
  assert.deepEqual(posts.map(({ body }) => [body.sequence, body.rows]), [[1, 2], [1, 2], [1, 2], [2, 1]]);
  assert.equal(posts[0].url, "http://127.0.0.1:3000/fleet/observe");
  assert.match(posts[0].body.instance, /^[0-9a-f-]{36}$/);
  assert.equal(new Set(posts.map(({ body }) => body.instance)).size, 1);

  await model.predictText("a");
  status = 422;
  assert.equal(await model.flush(), true, "what is refused is given up");
  status = 202;
  assert.equal(await model.flush(), true);
  assert.equal(posts.length, 5);
  model.close();
  assert.equal(await model.flush(), true);
});
