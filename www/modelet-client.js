/**
 * A trained model in a web page: no server, nothing sent.
 *
 * Put this file, `worker.js`, `modelet.js` and `modelet_bg.wasm` into one
 * folder, and the model's bundle wherever the page may fetch it:
 *
 *     import { load } from "./modelet/modelet-client.js";
 *
 *     const model = await load({ bundle: "credit.bundle" });
 *     const answer = await model.predict({ income: 75000, debt_ratio: 0.35, ... });
 *     console.log(answer.prediction, answer.probability);
 *
 * A record that is refused rejects with a {@link PredictionError}; its `faults`
 * name every feature that is wrong at once:
 *
 *     try {
 *       await model.predict({ income: "much" });
 *     } catch (error) {
 *       if (!(error instanceof PredictionError)) throw error;
 *       for (const fault of error.faults) console.log(fault.feature, fault.message);
 *     }
 *
 * Nothing leaves the page unless it says so: `model.report("https://host")`
 * sends counts of what is observed, and no values, to a modelet host, which
 * tells from them whether the data drifts. `flush` sends what is left, such as
 * when the page is hidden.
 *
 * `loadInWorker` gives the same interface without occupying the page's thread.
 * `verify` runs the tests that a model carries; an empty list means that this
 * browser answers as every other home does, to the last bit.
 */

/**
 * @import { EngineModel, EngineModule, Features, LoadOptions, LoadedModel,
 *   ModelInfo, Prediction, Problem, Timed, WorkerCall, WorkerMethod, WorkerReply } from "./types.js"
 */

/** How long `predictTimed` repeats a call. */
const TIMED_MS = 4;
const TIMED_RUNS_MAX = 1000;
/** How often observations are sent by default. */
const REPORT_MS = 10_000;

/** A record that the model refused, with all its faults. */
export class PredictionError extends Error {
  /** @param {Problem} problem */
  constructor(problem) {
    super(problem.detail || problem.title);
    this.name = "PredictionError";
    /** The document that a server would answer (RFC 9457). */
    this.problem = problem;
    /** Every fault: the feature, a code, a message and what is accepted. */
    this.faults = problem.faults ?? [];
  }
}

/**
 * Loads a model into this thread.
 *
 * @param {LoadOptions} options
 * @returns {Promise<LoadedModel>}
 */
export async function load({ bundle, module, sha256 }) {
  const bytes = await bytesOf(bundle);
  const address = module ?? moduleFor(readManifest(bytes).engine);
  const engine = await engineAt(new URL(address, import.meta.url).href);
  const model = new engine.Model(bytes);
  if (sha256 !== undefined && model.sha256 !== sha256.toLowerCase()) {
    const got = model.sha256;
    model.free();
    throw new Error(`the bundle's SHA-256 is ${got} and not ${sha256}`);
  }
  return new LocalModel(model, bytes.length);
}

/**
 * Loads a model into a worker of its own.
 *
 * @param {LoadOptions} options
 * @returns {Promise<LoadedModel>}
 */
export async function loadInWorker({ bundle, module, sha256 }) {
  // A worker resolves addresses against its own, the page against the page's.
  const source = typeof bundle === "string" ? new URL(bundle, document.baseURI) : bundle;
  const remote = new Remote();
  try {
    const loaded = await remote.call("load", [
      {
        bundle: source instanceof URL ? source.href : source,
        ...(module === undefined ? {} : { module: new URL(module, import.meta.url).href }),
        ...(sha256 === undefined ? {} : { sha256 }),
      },
    ]);
    return new WorkerModel(remote, loaded);
  } catch (error) {
    remote.close();
    throw error;
  }
}

/**
 * Reads the manifest of a bundle.
 *
 * @param {Uint8Array} bundle
 * @returns {ModelInfo}
 */
export function readManifest(bundle) {
  const magic = "MODELET\0";
  const view = new DataView(bundle.buffer, bundle.byteOffset, bundle.byteLength);
  const isBundle = bundle.length >= 16 && [...magic].every((c, i) => c.charCodeAt(0) === bundle[i]);
  if (!isBundle) throw new Error("not a modelet bundle: the magic number is missing");
  const version = view.getUint32(8, true);
  if (version !== 1) throw new Error(`bundle version: expected 1 but got ${version}; pack the model again`);
  const sections = view.getUint32(12, true);
  for (let at = 16; at < 16 + 24 * sections && at + 24 <= bundle.length; at += 24) {
    if (view.getUint32(at, true) !== 1) continue;
    const start = Number(view.getBigUint64(at + 8, true));
    const end = start + Number(view.getBigUint64(at + 16, true));
    if (end > bundle.length) throw new Error("the bundle is truncated");
    return JSON.parse(new TextDecoder().decode(bundle.subarray(start, end)));
  }
  throw new Error("the bundle has no manifest");
}

/** @param {string} engine */
function moduleFor(engine) {
  return engine === "neural" ? "./neural/modelet.js" : "./modelet.js";
}

/**
 * @param {LoadOptions["bundle"]} bundle
 * @returns {Promise<Uint8Array>}
 */
async function bytesOf(bundle) {
  if (bundle instanceof Uint8Array) return bundle;
  if (bundle instanceof ArrayBuffer) return new Uint8Array(bundle);
  const response = await fetch(bundle).catch((/** @type {unknown} */ cause) => {
    throw new Error(`cannot fetch ${bundle}`, { cause });
  });
  if (!response.ok) throw new Error(`cannot fetch ${response.url}: status ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** @type {Map<string, Promise<EngineModule>>} */
const engines = new Map();

/**
 * The engine at an address, which is started once: models share it.
 *
 * @param {string} address
 * @returns {Promise<EngineModule>}
 */
function engineAt(address) {
  let engine = engines.get(address);
  if (engine === undefined) {
    engine = startEngine(address);
    engines.set(address, engine);
    engine.catch(() => engines.delete(address));
  }
  return engine;
}

/**
 * @param {string} address
 * @returns {Promise<EngineModule>}
 */
async function startEngine(address) {
  try {
    /** @type {EngineModule} */
    const engine = await import(address);
    await engine.default({ module_or_path: new URL("modelet_bg.wasm", address) });
    return engine;
  } catch (cause) {
    throw new Error(`cannot load the engine from ${address}: ${messageOf(cause)}`, { cause });
  }
}

/** @param {unknown} error */
function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}

/** @implements {LoadedModel} */
class LocalModel {
  #model;
  /** Where observations go. @type {URL | undefined} */
  #collector;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #reporting;
  /** The push under way. @type {Promise<boolean> | undefined} */
  #pushing;

  /**
   * @param {EngineModel} model
   * @param {number} bundleBytes
   */
  constructor(model, bundleBytes) {
    this.#model = model;
    this.info = { ...model.info(), bundle_sha256: model.sha256 };
    this.sha256 = model.sha256;
    this.goldenRows = model.goldenRows;
    this.bundleBytes = bundleBytes;
  }

  /**
   * @param {Features} features
   * @param {string} [id]
   * @returns {Promise<Prediction>}
   */
  async predict(features, id) {
    try {
      return this.#model.predict(id === undefined ? { features } : { features, id });
    } catch (thrown) {
      if (isProblem(thrown)) throw new PredictionError(thrown);
      throw thrown;
    }
  }

  /** @param {string} body */
  async predictText(body) {
    return this.#model.predictText(body);
  }

  /**
   * @param {string} body
   * @param {string} [contentType]
   */
  async predictBatchText(body, contentType) {
    return this.#model.predictBatchText(body, contentType);
  }

  /**
   * @param {string} body
   * @returns {Promise<Timed>}
   */
  async predictTimed(body) {
    const answer = this.#model.predictText(body);
    const start = performance.now();
    let runs = 0;
    let elapsed = 0;
    do {
      this.#model.predictText(body, true);
      runs += 1;
      elapsed = performance.now() - start;
    } while (elapsed < TIMED_MS && runs < TIMED_RUNS_MAX);
    return { answer, microseconds: (elapsed * 1000) / runs, runs };
  }

  /**
   * @param {string | URL} host
   * @param {number} [everyMs]
   */
  async report(host, everyMs = REPORT_MS) {
    this.#collector = observeAddress(host);
    if (this.#reporting === undefined) this.#model.collect(crypto.randomUUID());
    clearInterval(this.#reporting);
    this.#reporting = setInterval(() => void this.flush(), everyMs);
  }

  /** @returns {Promise<boolean>} */
  flush() {
    this.#pushing ??= this.#push().finally(() => (this.#pushing = undefined));
    return this.#pushing;
  }

  /** @returns {Promise<boolean>} */
  async #push() {
    for (;;) {
      // The model may have been closed while a push was under way.
      const body = this.#collector && this.#model.observations();
      if (this.#collector === undefined || body === undefined) return true;
      /** @type {RequestInit} */
      const request = { method: "POST", headers: { "content-type": "application/json" }, body, keepalive: body.length < 60_000 };
      const status = await fetch(this.#collector, request).then((response) => response.status).catch(() => 0);
      // The same is sent again unless the host has it, or will never want it.
      if (status < 200 || status === 408 || status === 429 || status >= 500) return false;
      if (this.#collector !== undefined) this.#model.observed();
    }
  }

  async verify() {
    return [...this.#model.verify()];
  }

  close() {
    clearInterval(this.#reporting);
    this.#collector = undefined;
    this.#model.free();
  }
}

/**
 * Where a modelet host takes observations.
 *
 * @param {string | URL} host
 */
function observeAddress(host) {
  const address = new URL(host, globalThis.location?.href);
  address.pathname = address.pathname.replace(/(\/observe)?\/*$/, "/observe");
  return address;
}

/**
 * @param {unknown} value
 * @returns {value is Problem}
 */
function isProblem(value) {
  return typeof value === "object" && value !== null && "type" in value && "status" in value;
}

/** @implements {LoadedModel} */
class WorkerModel {
  #remote;

  /**
   * @param {Remote} remote
   * @param {{ info: ModelInfo, sha256: string, goldenRows: number, bundleBytes: number }} loaded
   */
  constructor(remote, loaded) {
    this.#remote = remote;
    this.info = loaded.info;
    this.sha256 = loaded.sha256;
    this.goldenRows = loaded.goldenRows;
    this.bundleBytes = loaded.bundleBytes;
  }

  /**
   * @param {Features} features
   * @param {string} [id]
   * @returns {Promise<Prediction>}
   */
  predict(features, id) {
    return this.#remote.call("predict", [features, id]);
  }

  /**
   * @param {string} body
   * @returns {Promise<string>}
   */
  predictText(body) {
    return this.#remote.call("predictText", [body]);
  }

  /**
   * @param {string} body
   * @param {string} [contentType]
   * @returns {Promise<string>}
   */
  predictBatchText(body, contentType) {
    return this.#remote.call("predictBatchText", [body, contentType]);
  }

  /**
   * @param {string} body
   * @returns {Promise<Timed>}
   */
  predictTimed(body) {
    return this.#remote.call("predictTimed", [body]);
  }

  /**
   * @param {string | URL} host
   * @param {number} [everyMs]
   * @returns {Promise<void>}
   */
  report(host, everyMs) {
    return this.#remote.call("report", [new URL(host, document.baseURI).href, everyMs]);
  }

  /** @returns {Promise<boolean>} */
  flush() {
    return this.#remote.call("flush", []);
  }

  /** @returns {Promise<number[]>} */
  verify() {
    return this.#remote.call("verify", []);
  }

  close() {
    this.#remote.close();
  }
}

/** A worker whose answers are promises. */
class Remote {
  #worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "modelet" });
  /** @type {Map<number, { resolve: (value: any) => void, reject: (error: Error) => void }>} */
  #waiting = new Map();
  #calls = 0;

  constructor() {
    this.#worker.onmessage = (/** @type {MessageEvent<WorkerReply>} */ { data }) => {
      const call = this.#waiting.get(data.id);
      this.#waiting.delete(data.id);
      if (call === undefined) return;
      if (data.error === undefined) {
        call.resolve(data.value);
      } else if (data.error.problem !== undefined) {
        call.reject(new PredictionError(data.error.problem));
      } else {
        call.reject(new Error(data.error.message));
      }
    };
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#rejectAll(new Error(event.message || "the worker's script cannot be loaded"));
    };
  }

  /**
   * @param {WorkerMethod} method
   * @param {any[]} args
   * @returns {Promise<any>}
   */
  call(method, args) {
    return new Promise((resolve, reject) => {
      const id = this.#calls++;
      this.#waiting.set(id, { resolve, reject });
      /** @type {WorkerCall} */
      const message = { id, method, args };
      this.#worker.postMessage(message);
    });
  }

  close() {
    this.#worker.terminate();
    this.#rejectAll(new Error("the model is closed"));
  }

  /** @param {Error} error */
  #rejectAll(error) {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
