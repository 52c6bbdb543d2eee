// What the tests of this folder share: Chromium, and a server of the files
// that a browser loads, laid out as a modelet host lays them out.

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

export const root = fileURLToPath(new URL("../..", import.meta.url));

const CONTENT_TYPES = {
  ".css": "text/css",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
};

// The folders that are looked into for a path, in order: the address's
// beginning and the folder.
const FOLDERS = [
  ["/www/neural/", join(root, "target/artifacts/browser-neural")],
  ["/www/", join(root, "www")],
  ["/www/", join(root, "target/artifacts/browser")],
];

/** Starts the Chromium that CHROMIUM names, or the installed one. */
export function startChromium() {
  const isRoot = process.getuid?.() === 0;
  return chromium.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    // Chromium refuses to run as root inside its sandbox.
    chromiumSandbox: !isRoot,
    args: ["--disable-gpu", "--disable-background-networking", "--no-first-run"],
  });
}

/**
 * Serves the browser library, and further files under their own paths, on a
 * free port of this machine alone.
 *
 * @param {Map<string, string>} files paths of files by their address
 */
export async function startServer(files) {
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    const file = files.get(pathname) ?? fileAt(pathname);
    if (file === undefined) {
      response.writeHead(pathname === "/blank" ? 200 : 404, { "content-type": "text/html" });
      response.end("<!doctype html><title>blank</title>");
      return;
    }
    try {
      const bytes = await readFile(file);
      response.writeHead(200, { "content-type": CONTENT_TYPES[extname(file)] ?? "application/octet-stream" });
      response.end(bytes);
    } catch (error) {
      response.writeHead(500, { "content-type": "text/plain" });
      response.end(String(error));
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    address: `http://127.0.0.1:${server.address().port}`,
    stop: () => new Promise((resolve) => server.close(resolve)),
  };
}

function fileAt(pathname) {
  const path = pathname === "/www/" ? "/www/index.html" : normalize(decodeURIComponent(pathname));
  for (const [prefix, folder] of FOLDERS) {
    const file = join(folder, path.slice(prefix.length));
    if (path.startsWith(prefix) && existsSync(file)) return file;
  }
  return undefined;
}

/** Reads the JSON in a section of a bundle: 1 is the manifest, 4 the golden rows. */
export function section(bundle, kind) {
  const sections = bundle.readUInt32LE(12);
  for (let at = 16; at < 16 + 24 * sections; at += 24) {
    if (bundle.readUInt32LE(at) !== kind) continue;
    const start = Number(bundle.readBigUInt64LE(at + 8));
    const end = start + Number(bundle.readBigUInt64LE(at + 16));
    return JSON.parse(bundle.toString("utf8", start, end));
  }
  return undefined;
}
