// Runs models in a real Chromium and holds their answers against those that
// the packed components gave, to the last bit; then uses the page as a person
// would.
//
//     node run.mjs [BUNDLE...]       every target/parity/*.bundle without arguments

import { existsSync } from "node:fs";
import { readFile, readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { stripVTControlCharacters } from "node:util";

import { checkObserve } from "./observe.mjs";
import { checkPage } from "./page.mjs";
import { root, section, startChromium, startServer } from "./support.mjs";

const FAILURES_SHOWN = 5;

async function bundles() {
  if (process.argv.length > 2) return process.argv.slice(2);
  const folder = join(root, "target/parity");
  const names = await readdir(folder).catch(() => []);
  return names.filter((name) => name.endsWith(".bundle")).sort().map((name) => join(folder, name));
}

/**
 * Runs in the browser: every way to ask the model, for every golden row.
 * Answers what was not as it should be.
 */
async function checkModel({ address, golden, engine }) {
  const { load, loadInWorker, PredictionError } = await import("/www/modelet-client.js");
  const failures = [];

  const same = (one, other) => {
    if (typeof one !== "object" || one === null || typeof other !== "object" || other === null) {
      return Object.is(one, other);
    }
    const keys = Object.keys(one);
    return (
      keys.length === Object.keys(other).length &&
      Array.isArray(one) === Array.isArray(other) &&
      keys.every((key) => key in other && same(one[key], other[key]))
    );
  };
  const comparable = (text) => {
    const end = text.lastIndexOf(',"inference_time_ms":');
    return end < 0 ? text : text.slice(0, end);
  };
  const asObject = async (model, request) => {
    const { features, id } = JSON.parse(request);
    try {
      return await model.predict(features, id);
    } catch (error) {
      if (error instanceof PredictionError) return error.problem;
      throw error;
    }
  };

  for (const [place, loader] of [["page", load], ["worker", loadInWorker]]) {
    const model = await loader({ bundle: address });
    if (model.goldenRows !== golden.length) {
      failures.push(`${place}: ${model.goldenRows} golden rows where the bundle has ${golden.length}`);
    }
    const differing = await model.verify();
    if (differing.length > 0) failures.push(`${place}: verify names the rows ${differing.join(", ")}`);
    for (const [index, { request, answer }] of golden.entries()) {
      const text = await model.predictText(request);
      if (comparable(text) !== answer) {
        failures.push(`${place}: row ${index}: expected ${answer} but got ${comparable(text)}`);
      }
      const object = await asObject(model, request);
      const expected = JSON.parse(text);
      // The time is the one member that may differ.
      if ("inference_time_ms" in expected) expected.inference_time_ms = object.inference_time_ms;
      if (!same(object, expected)) {
        failures.push(`${place}: row ${index}: the object ${JSON.stringify(object)} is not the text ${text}`);
      }
    }
    if (engine === "tabular" && golden.length > 0) {
      const rows = golden.map(({ request }) => JSON.stringify(JSON.parse(request).features));
      const text = await model.predictBatchText(rows.join("\n"), "application/x-ndjson");
      const each = golden.map(({ answer }) => `${answer.slice(0, answer.lastIndexOf(',"model_version":'))}}`);
      if (!text.startsWith(`{"predictions":[${each.join(",")}],`)) {
        failures.push(`${place}: the batch is not answered as its rows are: ${text.slice(0, 300)}`);
      }
    }
    model.close();
  }

  const damaged = new Uint8Array(await (await fetch(address)).arrayBuffer()).subarray(0, -16);
  await load({ bundle: damaged }).then(
    () => failures.push("a truncated bundle is loaded"),
    () => {},
  );
  await load({ bundle: address, sha256: "0".repeat(64) }).then(
    () => failures.push("a bundle with another SHA-256 than the wanted one is loaded"),
    () => {},
  );
  const model = await load({ bundle: address });
  const refused = await model.predict({ "no such feature": 1 }).then(
    () => null,
    (error) => error,
  );
  const ignores = model.info.unknown === "ignore" && model.info.features.every(({ nullable }) => nullable);
  if (!ignores && !(refused instanceof PredictionError && refused.faults.length > 0)) {
    failures.push(`an unknown feature is not refused with its fault: ${refused}`);
  }
  model.close();
  return failures;
}

/** Gives the failures, and how many golden rows there were. */
async function runModel(context, server, path, address) {
  const bundle = await readFile(path).catch(() => null);
  if (bundle === null) return { failures: [`${path} cannot be read`], rows: 0 };
  const manifest = section(bundle, 1);
  const golden = section(bundle, 4)?.rows ?? [];
  if (golden.length === 0) return { failures: ["the bundle has no golden rows"], rows: 0 };
  const page = await context.newPage();
  const failures = [];
  page.on("pageerror", (error) => failures.push(String(error)));
  try {
    await page.goto(`${server.address}/blank`);
    failures.push(...(await page.evaluate(checkModel, { address, golden, engine: manifest.engine })));
  } catch (error) {
    failures.push(error.message);
  } finally {
    await page.close();
  }
  return { failures, rows: golden.length };
}

function report(name, failures, note) {
  console.log(`${failures.length === 0 ? "ok  " : "FAIL"} ${name}${note}`);
  for (const failure of failures.slice(0, FAILURES_SHOWN)) console.log(`       ${stripVTControlCharacters(failure)}`);
  if (failures.length > FAILURES_SHOWN) console.log(`       and ${failures.length - FAILURES_SHOWN} more`);
  return failures.length === 0;
}

/** What a page observed goes to a host of another origin, if that lets it. */
async function observations() {
  const path = paths.find((path) => existsSync(path.replace(/bundle$/, "wasm")));
  if (path === undefined) return ["no component is beside its bundle"];
  const bundle = [...addresses].find(([, of]) => of === path)[0];
  const golden = section(await readFile(path), 4)?.rows ?? [];
  const other = await startServer(addresses);
  const model = { component: path.replace(/bundle$/, "wasm"), bundle, golden };
  return checkObserve(context, server, other, model).finally(other.stop);
}

const paths = await bundles();
if (paths.length === 0) {
  console.error("there is no target/parity/*.bundle; the integration tests pack them: cargo xtask test integration");
  process.exit(1);
}
const addresses = new Map(paths.map((path, index) => [`/bundles/${index}.bundle`, path]));
const server = await startServer(new Map([...addresses, ["/www/model.bundle", paths[0]]]));
const browser = await startChromium();
const context = await browser.newContext();
context.setDefaultTimeout(60_000);

const outcomes = [];
for (const [address, path] of addresses) {
  const started = performance.now();
  const { failures, rows } = await runModel(context, server, path, address);
  const took = ((performance.now() - started) / 1000).toFixed(1);
  outcomes.push(report(basename(path, ".bundle"), failures, `: ${rows} golden rows, ${took} s`));
}
outcomes.push(report("the page", await checkPage(context, server.address), ""));
outcomes.push(report("observations of pages elsewhere", await observations(), ""));

await browser.close();
await server.stop();
const passed = outcomes.filter(Boolean).length;
console.log(`${passed} passed, ${outcomes.length - passed} failed`);
process.exitCode = passed === outcomes.length ? 0 : 1;
