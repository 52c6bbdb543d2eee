// A page of one origin sends what it observed to a modelet host of another:
// the browser lets it where the host's configuration names the page's origin.

import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { root } from "./support.mjs";

const ROWS = 3;

/** The built command line; `MODELET` names another. */
const MODELET = process.env.MODELET || join(root, "target/release/modelet");

/** Starts a host of this model and waits until it says where it listens. */
async function startHost(model, config) {
  const host = spawn(MODELET, ["serve", model, "--listen", "127.0.0.1:0", "--store", "memory", "--config", config]);
  let log = "";
  const address = await new Promise((resolve, reject) => {
    const read = (chunk) => {
      log += chunk;
      const found = /listening on (http:\S+)/.exec(log);
      if (found) resolve(found[1]);
    };
    host.stdout.on("data", read);
    host.stderr.on("data", read);
    host.on("error", reject);
    host.on("exit", (code) => reject(new Error(`modelet serve ended with ${code}: ${log}`)));
  });
  return { address, stop: () => new Promise((resolve) => host.on("exit", resolve) && host.kill()) };
}

/** Runs in the browser: predicts, and sends what was observed. */
async function observe({ bundle, host, golden, rows }) {
  const { load } = await import("/www/modelet-client.js");
  const model = await load({ bundle });
  await model.report(host);
  for (let row = 0; row < rows; row += 1) {
    const { features } = JSON.parse(golden[row % golden.length].request);
    await model.predict(features).catch(() => undefined);
  }
  const arrived = await model.flush();
  model.close();
  return arrived;
}

/**
 * @param {import("playwright-core").BrowserContext} context
 * @param {{ address: string }} known the server whose origin is configured
 * @param {{ address: string }} other a server whose origin is not
 * @param {{ component: string, bundle: string, golden: object[] }} model its
 *   component's path, the address of its bundle on both servers, and its rows
 * @returns {Promise<string[]>} what was not as it should be
 */
export async function checkObserve(context, known, other, model) {
  const failures = [];
  const folder = await mkdtemp(join(tmpdir(), "modelet-"));
  const config = join(folder, "modelet.toml");
  await writeFile(config, `[monitor.observe]\norigins = ["${known.address}"]\n`);
  const host = await startHost(model.component, config);
  try {
    let expected = 0;
    for (const [server, may] of [[other, false], [known, true], [other, false]]) {
      const page = await context.newPage();
      await page.goto(`${server.address}/blank`);
      const question = { bundle: model.bundle, host: host.address, golden: model.golden, rows: ROWS };
      const arrived = await page.evaluate(observe, question);
      await page.close();
      expected += may ? ROWS : 0;
      const report = await (await fetch(`${host.address}/drift?source=browser`)).json();
      const counted = report.rows + report.rejected;
      if (arrived !== may) failures.push(`the page at ${server.address} was told ${arrived}`);
      if (counted !== expected) failures.push(`the host has ${counted} rows of browsers where ${expected} may arrive`);
    }
  } catch (error) {
    failures.push(error.message);
  } finally {
    await host.stop();
    await rm(folder, { recursive: true });
  }
  return failures;
}
