// Uses the page of a running modelet host, and takes a picture of it.
//
//     node screenshot.mjs URL OUT.png [--dark] [--narrow] [--full]

import { startChromium } from "./support.mjs";

const [url, out, ...options] = process.argv.slice(2);
if (url === undefined || out === undefined) {
  console.error("usage: node screenshot.mjs URL OUT.png [--dark] [--narrow] [--full]");
  process.exit(2);
}
const has = (option) => options.includes(option);

const browser = await startChromium();
try {
  const page = await browser.newPage({
    colorScheme: has("--dark") ? "dark" : "light",
    deviceScaleFactor: 2,
    viewport: has("--narrow") ? { width: 390, height: 844 } : { width: 1360, height: 1000 },
  });
  page.setDefaultTimeout(30_000);
  page.on("pageerror", (error) => console.error(String(error)));
  page.on("console", (message) => message.type() === "error" && console.error(message.text()));
  await page.goto(url);
  const headline = page.locator("#page-card .headline");
  await headline.waitFor();

  // Changes a value, and waits for the answer that the page itself makes.
  const request = page.locator("#request");
  const before = await request.textContent();
  const number = page.locator('.field input[type="number"]').first();
  if ((await number.count()) > 0) {
    await number.fill(String(Math.round(Number(await number.inputValue())) + 1));
    await page.waitForFunction((before) => document.querySelector("#request")?.textContent !== before, before);
    await page.waitForSelector("#page-card:not([aria-busy])");
  }
  if (await page.isVisible("#ask")) {
    await page.click("#ask");
    await page.waitForSelector("#server-card .headline");
    await page.waitForSelector('#parity:not([data-state="none"])');
  }
  await page.click("#verify");
  await page.waitForSelector('#golden-result:not([data-state=""])');
  await page.evaluate(() => window.scrollTo(0, 0));
  await page.screenshot({ path: out, fullPage: has("--full") });
  console.log(`in the page: ${await headline.innerText()}`.replaceAll("\n", " "));
  if (await page.isVisible("#parity")) console.log(`parity: ${await page.locator("#parity-text").innerText()}`);
  console.log(`golden rows: ${await page.locator("#golden-result").innerText()}`);
} finally {
  await browser.close();
}
