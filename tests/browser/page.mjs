// Uses the page as a person would: alone in a folder, and beside a server.

const PATIENCE_MS = 15_000;

/**
 * @param {import("playwright-core").BrowserContext} context
 * @param {string} address of a server that has the page in `/www/` and a bundle
 *   at `/www/model.bundle`
 * @returns {Promise<string[]>} what was not as it should be
 */
export async function checkPage(context, address) {
  const failures = [];
  for (const [name, check] of [
    ["in a folder", alone],
    ["beside a server", besideServer],
    ["beside a server that has no bundle", withoutBundle],
    ["without a model", withoutModel],
  ]) {
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    page.on("pageerror", (error) => failures.push(`${name}: ${error}`));
    page.on("console", (message) => {
      // A file that is looked for and not there is reported too.
      const isExpected = message.text().startsWith("Failed to load resource");
      if (message.type() === "error" && !isExpected) failures.push(`${name}: ${message.text()}`);
    });
    try {
      await check(page, address, (good, what) => good || failures.push(`${name}: ${what}`));
    } catch (error) {
      failures.push(`${name}: ${error.message}`);
    } finally {
      await page.close();
    }
  }
  return failures;
}

const HEADLINE = "#page-card .headline strong";

async function alone(page, address, expect) {
  await page.goto(`${address}/www/`);
  await page.waitForSelector(HEADLINE);
  const info = await manifest(page);
  expect((await page.textContent("#name")) === info.name, "the model's name is not shown");
  expect((await page.locator(".field").count()) === info.features.length, "not every feature has a field");
  expect(await page.isHidden("#ask"), "a server can be asked where there is none");
  expect(await page.isHidden("#links"), "a server's pages are linked where there is none");

  const labels = page.locator(".field label");
  for (const label of await labels.all()) {
    const id = await label.getAttribute("for");
    expect((await page.locator(`#${id}`).count()) === 1, `the label of ${id} belongs to nothing`);
  }

  await page.click("#verify");
  await page.waitForSelector('#golden-result[data-state="good"]');
  await page.click("#random");
  await page.click("#clear");
  const required = info.features.some(({ nullable }) => !nullable);
  if (required) {
    await page.waitForSelector('.field[data-state="fault"] [aria-invalid="true"]');
    expect((await page.textContent('.field[data-state="fault"] .said')).includes("required"), "the fault is not said");
  }
  await page.click("#example");
  await page.waitForSelector(`${HEADLINE}:not(.refused *)`);
  expect((await page.locator('.field[data-state="fault"]').count()) === 0, "the example has faults");
}

async function besideServer(page, address, expect) {
  // The server answers as the model in a second page does.
  const model = await page.context().newPage();
  await model.goto(`${address}/blank`);
  const asServer = (body) =>
    model.evaluate(async (body) => {
      const { load } = await import("/www/modelet-client.js");
      return (await load({ bundle: "/www/model.bundle" })).predictText(body);
    }, body);
  const info = JSON.stringify(await manifest(model));
  const asked = [];
  let digits = (text) => text;
  const json = "application/json";
  await page.route("**/model/info", (route) => route.fulfill({ contentType: json, body: info }));
  await page.route("**/model/bundle", (route) => route.continue({ url: `${address}/www/model.bundle` }));
  await page.route("**/predict", async (route) => {
    asked.push(route.request().postData());
    const text = digits(await asServer(asked.at(-1)));
    await route.fulfill({ contentType: json, body: `${text.slice(0, -1)},"id":"made by the server"}` });
  });

  await page.goto(`${address}/www/`);
  await page.waitForSelector(HEADLINE);
  expect(asked.length === 0, "the server is asked before anyone said so");
  await page.click("#ask");
  await page.waitForSelector('#parity[data-state="equal"]');
  expect((await page.textContent("#request")).includes(asked[0].replaceAll("'", "'\\''")), "the command is not the request");

  const number = page.locator('.field input[type="number"]').first();
  if ((await number.count()) === 1) {
    await number.fill("12345.5");
    await page.waitForSelector('#server-card[data-stale="true"]');
    expect(asked.length === 1, "what is typed is sent");
    await number.press("Enter");
    await page.waitForSelector('#parity[data-state="equal"]');
    expect(asked.at(-1).includes("12345.5"), "the server is not asked what was typed");
  }

  digits = (text) => text.replace(/\d/, (digit) => String((Number(digit) + 1) % 10));
  await page.click("#example");
  await page.click("#ask");
  await page.waitForSelector('#parity[data-state="different"]');
  await model.close();
}

async function withoutBundle(page, address, expect) {
  const info = { name: "m", version: "1", engine: "tabular", task: "regression", features: [], inputs: [] };
  const manifest = { ...info, output: { width: 1 }, reference: { rows: 0, columns: [] }, bundle_sha256: "00" };
  await page.route("**/model/info", (route) => route.fulfill({ contentType: "application/json", body: JSON.stringify(manifest) }));
  await page.route("**/predict", (route) =>
    route.fulfill({ contentType: "application/json", body: '{"prediction":7,"model_version":"1","inference_time_ms":0}' }),
  );
  await page.goto(`${address}/www/`);
  await page.click("#ask");
  await page.waitForSelector("#server-card .headline");
  expect((await page.textContent("#server-card .headline strong")) === "7", "the server's answer is not shown");
  expect((await page.textContent("#page-card")).includes("does not run in this page"), "the reason is not told");
}

async function withoutModel(page, address, expect) {
  await page.route("**/model.bundle", (route) => route.fulfill({ contentType: "text/html", body: "<!doctype html>" }));
  await page.goto(`${address}/www/`);
  await page.waitForSelector("#failure:not([hidden])");
  expect((await page.textContent("#failure")).includes("not a modelet bundle"), "the reason is not told");
}

/** The manifest of the bundle, read in the page. */
function manifest(page) {
  return page.evaluate(async () => {
    const { load } = await import("/www/modelet-client.js");
    const model = await load({ bundle: "/www/model.bundle" });
    return model.info;
  });
}
