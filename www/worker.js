/**
 * One model in a thread of its own: what `loadInWorker` starts.
 *
 * @import { LoadedModel, WorkerCall, WorkerReply } from "./types.js"
 */

import { PredictionError, load } from "./modelet-client.js";

/** @type {Promise<LoadedModel> | null} */
let loading = null;

self.onmessage = async (/** @type {MessageEvent<WorkerCall>} */ { data }) => {
  /** @type {WorkerReply} */
  let reply;
  try {
    reply = { id: data.id, value: await answer(data) };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    reply = {
      id: data.id,
      error: error instanceof PredictionError ? { message, problem: error.problem } : { message },
    };
  }
  self.postMessage(reply);
};

/** @param {WorkerCall} call */
async function answer({ method, args }) {
  if (method === "load") {
    loading = load(args[0]);
    const { info, sha256, goldenRows, bundleBytes } = await loading;
    return { info, sha256, goldenRows, bundleBytes };
  }
  if (loading === null) throw new Error("no model is loaded");
  const model = await loading;
  switch (method) {
    case "predict":
      return model.predict(args[0], args[1]);
    case "predictText":
      return model.predictText(args[0]);
    case "predictBatchText":
      return model.predictBatchText(args[0], args[1]);
    case "predictTimed":
      return model.predictTimed(args[0]);
    case "report":
      return model.report(args[0], args[1]);
    case "flush":
      return model.flush();
    case "verify":
      return model.verify();
    default:
      throw new Error(`the worker has no method ${method}`);
  }
}
