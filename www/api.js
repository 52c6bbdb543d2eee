/**
 * The HTTP interface of the server beside the page.
 *
 * @import { ModelInfo } from "./types.js"
 */

/** An answer's text, a problem's included, and how long it took to come. */
/** @typedef {{ status: number, text: string, roundTripMs: number, requestId: string | null }} ServerAnswer */

/** The server cannot be asked, or what answers is not a modelet server. */
export class ServerError extends Error {
  name = "ServerError";
}

/** A server that serves one model. */
export class Server {
  #fetch;

  /**
   * @param {string | URL} base the address below which the routes lie; ends with a slash
   * @param {typeof fetch} [fetcher]
   */
  constructor(base, fetcher = (input, init) => fetch(input, init)) {
    this.base = new URL(base);
    this.#fetch = fetcher;
  }

  /**
   * The address of a route.
   *
   * @param {string} path without a slash before it
   */
  url(path) {
    return new URL(path, this.base).href;
  }

  /**
   * The manifest of the model it serves.
   *
   * @returns {Promise<ModelInfo>}
   */
  async info() {
    const response = await this.#ask("model/info", { headers: { accept: "application/json" } });
    const text = await response.text();
    const info = isJson(response) ? parsed(text) : undefined;
    if (!response.ok || !Array.isArray(info?.features)) {
      throw new ServerError(`${this.url("model/info")} answers ${response.status} and no model's manifest`);
    }
    return info;
  }

  /**
   * Asks for one prediction.
   *
   * @param {string} body
   * @returns {Promise<ServerAnswer>}
   */
  async predict(body) {
    const start = performance.now();
    const response = await this.#ask("predict", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body,
    });
    const text = await response.text();
    const roundTripMs = performance.now() - start;
    if (!isJson(response) || parsed(text) === undefined) {
      throw new ServerError(`${this.url("predict")} answers ${response.status} and no JSON`);
    }
    return { status: response.status, text, roundTripMs, requestId: response.headers.get("x-request-id") };
  }

  /**
   * @param {string} path
   * @param {RequestInit} init
   */
  async #ask(path, init) {
    try {
      return await this.#fetch(this.url(path), { cache: "no-store", ...init });
    } catch (cause) {
      throw new ServerError(`${this.base.host || this.base} cannot be reached`, { cause });
    }
  }
}

/** @param {Response} response */
function isJson(response) {
  return /^application\/(problem\+)?json\b/i.test(response.headers.get("content-type") ?? "");
}

/** @param {string} text */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
