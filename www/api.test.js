import assert from "node:assert/strict";
import { test } from "node:test";

import { Server, ServerError } from "./api.js";

/** A server below /credit/ that answers with this, and the calls made of it. */
function server(body, init = {}) {
  const calls = [];
  const answer = { headers: { "content-type": "application/json" }, ...init };
  const fetcher = async (url, options) => {
    calls.push({ url, ...options });
    return new Response(body, answer);
  };
  return { calls, server: new Server("http://localhost:3000/credit/", fetcher) };
}

test("routes lie below the base", () => {
  assert.equal(server("").server.url("model/bundle"), "http://localhost:3000/credit/model/bundle");
});

test("a prediction is asked for with the body as it is, and answered with the text as it came", async () => {
  const { calls, server: credit } = server('{"prediction":1}', {
    headers: { "content-type": "application/json", "x-request-id": "7" },
  });
  const answer = await credit.predict('{"features":{"a":1e400}}');
  assert.equal(answer.text, '{"prediction":1}');
  assert.deepEqual([answer.status, answer.requestId], [200, "7"]);
  assert.equal(calls[0].url, "http://localhost:3000/credit/predict");
  assert.equal(calls[0].body, '{"features":{"a":1e400}}');
  assert.equal(calls[0].headers["content-type"], "application/json");
});

test("a refusal is an answer", async () => {
  const { server: credit } = server('{"status":422}', {
    status: 422,
    headers: { "content-type": "application/problem+json; charset=utf-8" },
  });
  assert.equal((await credit.predict("{}")).status, 422);
});

test("what is no modelet server is told apart", async () => {
  for (const [body, init, name] of [
    ["<!doctype html>", { headers: { "content-type": "text/html" } }, "a page for every path"],
    ['{"features":[]}', { status: 500 }, "an error"],
    ['{"hello":"world"}', {}, "another service"],
    ["{", {}, "broken JSON"],
  ]) {
    await assert.rejects(server(body, init).server.info(), ServerError, name);
  }
  assert.deepEqual(await server('{"features":[]}').server.info(), { features: [] });
  await assert.rejects(server("<p>", { headers: { "content-type": "text/html" } }).server.predict("{}"), /no JSON/);
});

test("a server that cannot be reached is named", async () => {
  const refuse = async () => {
    throw new TypeError("fetch failed");
  };
  await assert.rejects(new Server("http://localhost:1/", refuse).predict("{}"), {
    name: "ServerError",
    message: "localhost:1 cannot be reached",
  });
});
