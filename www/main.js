/**
 * The page of one model: the only module that touches the document.
 *
 * The prediction follows the form as it is typed, in a worker of this page. The
 * server is asked on demand only: it counts what it is asked into the drift
 * statistics, and what is typed stays here until then.
 *
 * @import { Fault, LoadedModel, ModelInfo, Warning } from "./types.js"
 * @import { Field } from "./form.js"
 * @import { ServerAnswer } from "./api.js"
 */

import { byField, comparable, describe, difference, parseAnswer } from "./answer.js";
import { Server } from "./api.js";
import { exampleTexts, fieldsOf, randomTexts, requestOf } from "./form.js";
import { count, counted, curl, duration, faultText, size } from "./format.js";
import { loadInWorker } from "./modelet-client.js";

/** How long the form must be left alone before the model is asked. */
const PAUSE_MS = 60;
/** How long before the answer is read out. */
const SPOKEN_PAUSE_MS = 900;
/** From so many features on the form can be searched. */
const FILTER_FROM = 25;
/** The most fields that are shown; further features keep their examples. */
const FIELDS_MAX = 500;
/** What a choice has to be left for another value. */
const ANOTHER = "\0another";

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @param {{ new (): T }} kind
 * @returns {T}
 */
function byId(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the document has no ${kind.name} #${id}`);
  return found;
}

/**
 * An element with a class and what it contains; text stays text.
 *
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {string} className
 * @param {(Node | string)[]} children
 */
function element(tag, className = "", ...children) {
  const made = document.createElement(tag);
  if (className !== "") made.className = className;
  made.append(...children);
  return made;
}

const page = {
  failure: byId("failure", HTMLElement),
  content: byId("content", HTMLElement),
  form: byId("form", HTMLFormElement),
  fields: byId("fields", HTMLElement),
  ask: byId("ask", HTMLButtonElement),
  pageCard: byId("page-card", HTMLElement),
  serverCard: byId("server-card", HTMLElement),
  parity: byId("parity", HTMLElement),
  parityText: byId("parity-text", HTMLElement),
  request: byId("request", HTMLElement),
  spoken: byId("spoken", HTMLElement),
  brief: byId("brief", HTMLElement),
  verify: byId("verify", HTMLButtonElement),
  goldenResult: byId("golden-result", HTMLElement),
};

/** @param {unknown} error */
function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}

/** @param {unknown} error */
function fail(error) {
  page.failure.textContent = messageOf(error);
  page.failure.hidden = false;
}

/** @param {string} name */
function setting(name) {
  const meta = document.querySelector(`meta[name="${name}"]`);
  return meta instanceof HTMLMetaElement ? meta.content : undefined;
}

/**
 * The server beside the page, and its model.
 *
 * @returns {Promise<{ server: Server, info: ModelInfo } | null>}
 */
async function findServer() {
  const address = setting("modelet-server") ?? "../";
  if (address === "") return null;
  const server = new Server(new URL(address, import.meta.url));
  try {
    return { server, info: await server.info() };
  } catch (error) {
    if (setting("modelet-server") !== undefined) fail(error);
    return null;
  }
}

/** The texts of the form, by feature. */
class Form {
  /** @type {Map<string, { element: HTMLElement, control: HTMLInputElement | HTMLSelectElement, said: HTMLElement, read: () => string, write: (text: string) => void }>} */
  #shown = new Map();

  /**
   * @param {Field[]} fields
   * @param {() => void} changed
   */
  constructor(fields, changed) {
    this.fields = fields;
    this.texts = exampleTexts(fields);
    for (const [index, field] of fields.slice(0, FIELDS_MAX).entries()) this.#show(field, index, changed);
  }

  /** @param {Map<string, string>} texts */
  write(texts) {
    this.texts = texts;
    for (const [name, { write }] of this.#shown) write(texts.get(name) ?? "");
  }

  /** @param {string} name */
  has(name) {
    return this.#shown.has(name);
  }

  /** @param {string} part */
  filter(part) {
    let found = 0;
    for (const [name, { element }] of this.#shown) {
      element.hidden = !name.toLowerCase().includes(part.toLowerCase());
      if (!element.hidden) found += 1;
    }
    return found;
  }

  /**
   * Says faults and warnings beside the fields that they belong to.
   *
   * @param {Map<string, string[]>} faults
   * @param {Map<string, string[]>} warnings
   */
  say(faults, warnings) {
    for (const [name, { element, control, said }] of this.#shown) {
      const wrong = faults.get(name);
      const odd = warnings.get(name);
      const text = (wrong ?? odd ?? []).join("; ");
      element.dataset["state"] = wrong ? "fault" : odd ? "warning" : "";
      if (said.textContent !== text) said.textContent = text;
      said.hidden = text === "";
      if (wrong) control.setAttribute("aria-invalid", "true");
      else control.removeAttribute("aria-invalid");
    }
  }

  /**
   * @param {Field} field
   * @param {number} index
   * @param {() => void} changed
   */
  #show(field, index, changed) {
    const id = `field-${index}`;
    const { control, others, read, write } = controlOf(field, id);
    const label = element("label", "", field.name);
    label.htmlFor = id;
    const said = element("span", "said");
    said.id = `${id}-said`;
    said.hidden = true;
    const described = [said.id];
    const block = element("div", "field");
    if (field.checkbox) {
      block.append(element("div", "checkbox", control, label));
    } else {
      block.append(label, control, ...others);
    }
    if (field.hint !== "") {
      const hint = element("span", "hint", field.hint);
      hint.id = `${id}-hint`;
      described.unshift(hint.id);
      block.append(hint);
    }
    block.append(said);
    control.setAttribute("aria-describedby", described.join(" "));
    for (const other of others) other.setAttribute("aria-describedby", described.join(" "));
    block.addEventListener("input", () => {
      this.texts.set(field.name, read());
      changed();
    });
    write(this.texts.get(field.name) ?? "");
    page.fields.append(block);
    this.#shown.set(field.name, { element: block, control, said, read, write });
  }
}

/**
 * The control of a field, with others that belong to it.
 *
 * @param {Field} field
 * @param {string} id
 * @returns {{ control: HTMLInputElement | HTMLSelectElement, others: HTMLInputElement[], read: () => string, write: (text: string) => void }}
 */
function controlOf(field, id) {
  if (field.checkbox) {
    const box = element("input");
    box.type = "checkbox";
    box.id = id;
    const write = (/** @type {string} */ text) => {
      box.checked = text === "true";
      // What was cleared is neither true nor false.
      box.indeterminate = text === "";
    };
    return { control: box, others: [], read: () => String(box.checked), write };
  }
  if (field.kind === "choice") return choiceOf(field, id);
  const input = inputOf(field);
  input.id = id;
  return { control: input, others: [], read: () => textIn(input), write: (text) => void (input.value = text) };
}

/** @param {Field} field */
function inputOf(field) {
  const input = element("input");
  input.placeholder = field.nullable ? "empty" : "";
  if (field.kind === "text" || field.textual) {
    input.type = "text";
    input.spellcheck = false;
  } else {
    input.type = "number";
    input.step = field.step;
    input.inputMode = field.kind === "integer" && (field.min ?? -1) >= 0 ? "numeric" : "decimal";
    if (field.min !== undefined) input.min = String(field.min);
    if (field.max !== undefined) input.max = String(field.max);
  }
  return input;
}

/**
 * What was typed. A number's input hides a text that is none.
 *
 * @param {HTMLInputElement} input
 */
function textIn(input) {
  return input.validity.badInput ? "what was typed" : input.value;
}

/**
 * @param {Field} field
 * @param {string} id
 */
function choiceOf(field, id) {
  const select = element("select");
  select.id = id;
  const empty = new Option(field.nullable ? "empty" : "choose…", "");
  select.append(empty, ...field.options.map(({ label, value }) => new Option(label, value)));
  const input = inputOf(field);
  input.setAttribute("aria-label", `another value of ${field.name}`);
  input.hidden = true;
  if (field.open) select.append(new Option("another…", ANOTHER));
  select.addEventListener("input", () => {
    input.hidden = select.value !== ANOTHER;
    if (!input.hidden) input.focus();
  });
  return {
    control: select,
    others: field.open ? [input] : [],
    read: () => (select.value === ANOTHER ? textIn(input) : select.value),
    write: (/** @type {string} */ text) => {
      const listed = text === "" || field.options.some(({ value }) => value === text);
      select.value = listed ? text : ANOTHER;
      input.value = listed ? "" : text;
      input.hidden = listed;
    },
  };
}

/**
 * Shows an answer in a card.
 *
 * @param {HTMLElement} card
 * @param {string} text
 * @param {ModelInfo} info
 * @param {string} time
 * @param {(name: string) => boolean} hasField
 */
function showAnswer(card, text, info, time, hasField) {
  const place = card.querySelector(".answer");
  const wasOpen = place?.querySelector("details")?.open ?? false;
  const { prediction, problem } = parseAnswer(text);
  const children = [];
  if (prediction !== undefined) {
    const { headline, detail, parts } = describe(prediction, info);
    children.push(element("p", "headline", element("strong", "", headline), element("span", "", detail)));
    if (parts.length > 0) {
      const list = element("dl", "parts");
      for (const part of parts) {
        const chosen = part.chosen ? "chosen" : "";
        const track = element("dd", `track ${chosen}`);
        if (part.share !== undefined) {
          const filled = element("div", "filled");
          filled.style.width = `${Math.max(0, Math.min(1, part.share)) * 100}%`;
          track.append(filled);
        } else {
          track.style.visibility = "hidden";
        }
        list.append(element("dt", chosen, part.label), track, element("dd", `share ${chosen}`, part.text));
      }
      children.push(list);
    }
  } else {
    children.push(element("p", "headline refused", element("strong", "", problem.title)));
    children.push(element("p", "note", problem.detail));
  }
  /** @type {Fault[]} */
  const complaints = problem?.faults ?? prediction?.warnings ?? [];
  const { others } = byField(complaints, hasField);
  if (others.length > 0) {
    const items = others.map((said) => element("li", "", said.feature ? `${said.feature}: ` : "", faultText(said)));
    children.push(element("ul", "", ...items));
  }
  children.push(element("p", "time", time));
  const json = element("details", "", element("summary", "", "Answer as it came"), element("pre", "", text));
  json.open = wasOpen;
  children.push(json);
  place?.replaceChildren(...children);
  card.dataset["stale"] = "false";
}

/**
 * Says in a card why it shows no answer.
 *
 * @param {HTMLElement} card
 * @param {string} text
 */
function showNote(card, text) {
  card.querySelector(".answer")?.replaceChildren(element("p", "note", text));
  card.dataset["stale"] = "false";
}

/**
 * @param {"none" | "equal" | "different"} state
 * @param {string} text
 */
function showParity(state, text) {
  page.parity.dataset["state"] = state;
  page.parityText.textContent = text;
}

/**
 * @param {ModelInfo} info
 * @param {LoadedModel | null} model
 */
function showModel(info, model) {
  document.title = `${info.name} · modelet`;
  byId("name", HTMLElement).textContent = info.name;
  const chips = [`version ${info.version}`, info.task, counted(info.features.length, "feature"), `${info.engine} engine`];
  if (model !== null) chips.push(size(model.bundleBytes));
  byId("chips", HTMLElement).replaceChildren(...chips.map((text) => element("span", "", text)));
  byId("sha", HTMLElement).textContent = info.bundle_sha256;
  byId("identity", HTMLElement).hidden = false;
}

/** @param {Server} server */
function showLinks(server) {
  const links = byId("links", HTMLElement);
  for (const link of links.querySelectorAll("a")) link.href = server.url(link.dataset["path"] ?? "");
  links.hidden = false;
}

/**
 * @param {HTMLButtonElement} button
 * @param {() => string} text
 */
function copies(button, text) {
  const label = button.textContent;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select and copy it";
    }
    setTimeout(() => void (button.textContent = label), 1500);
  });
}

/** What the page does with one model. */
class Playground {
  #model;
  #found;
  #info;
  #form;
  /** The request that the form stands for. */
  #body = "";
  /** @type {{ body: string, text: string } | null} */
  #here = null;
  /** @type {{ body: string, answer: ServerAnswer } | null} */
  #there = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #pause;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #spokenPause;
  /** A prediction is being made; another one waits for it to end. */
  #busy = false;

  /**
   * @param {LoadedModel | null} model
   * @param {{ server: Server, info: ModelInfo } | null} found
   * @param {ModelInfo} info
   */
  constructor(model, found, info) {
    this.#model = model;
    this.#found = found;
    this.#info = info;
    this.#form = new Form(fieldsOf(info), () => this.#later());
    this.#listen();
    page.content.hidden = false;
  }

  #listen() {
    const { fields } = this.#form;
    page.form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#compare();
    });
    /** @type {[string, () => Map<string, string>][]} */
    const fillings = [
      ["example", () => exampleTexts(fields)],
      ["random", () => randomTexts(fields, Math.random)],
      ["clear", () => new Map()],
    ];
    for (const [id, texts] of fillings) {
      byId(id, HTMLButtonElement).addEventListener("click", () => {
        this.#form.write(texts());
        void this.predict();
      });
    }
    const filter = byId("filter", HTMLInputElement);
    byId("filter-row", HTMLElement).hidden = fields.length < FILTER_FROM;
    filter.addEventListener("input", (event) => {
      event.stopPropagation();
      byId("none-found", HTMLElement).hidden = this.#form.filter(filter.value) > 0;
    });
    filter.addEventListener("keydown", (event) => {
      if (event.key === "Enter") event.preventDefault();
    });
    page.verify.addEventListener("click", () => void this.#verify());
    copies(byId("copy-request", HTMLButtonElement), () => page.request.textContent ?? "");
    copies(byId("copy-sha", HTMLButtonElement), () => this.#info.bundle_sha256);
  }

  #later() {
    clearTimeout(this.#pause);
    this.#pause = setTimeout(() => void this.predict(), PAUSE_MS);
  }

  /** Predicts in the page what the form stands for. */
  async predict() {
    clearTimeout(this.#pause);
    const { body, faults } = requestOf(this.#form.fields, this.#form.texts);
    this.#body = body;
    const server = this.#found?.server;
    page.request.textContent = server === undefined ? body : curl(server.url("predict"), body);
    if (this.#model === null) return;
    if (this.#busy) return this.#later();
    this.#busy = true;
    page.pageCard.setAttribute("aria-busy", "true");
    try {
      const { answer, microseconds, runs } = await this.#model.predictTimed(body);
      this.#here = { body, text: answer };
      const time = `${duration(microseconds / 1000)} an answer (mean of ${counted(runs, "run")}); nothing was sent`;
      showAnswer(page.pageCard, answer, this.#info, time, (name) => this.#form.has(name));
      this.#say(answer, faults);
    } catch (error) {
      this.#here = null;
      showNote(page.pageCard, messageOf(error));
    } finally {
      this.#busy = false;
      page.pageCard.removeAttribute("aria-busy");
    }
    page.brief.textContent = briefly(page.pageCard);
    this.#judge();
    this.#speak();
  }

  /**
   * @param {string} answer
   * @param {Map<string, string>} unreadable
   */
  #say(answer, unreadable) {
    const { prediction, problem } = parseAnswer(answer);
    const inForm = (/** @type {string} */ name) => this.#form.has(name);
    const faults = texts(byField(problem?.faults ?? [], inForm).byField);
    const warnings = texts(byField(prediction?.warnings ?? [], inForm).byField);
    // A text that is no number was left out of the request; the model would
    // call it missing.
    for (const [name, text] of unreadable) faults.set(name, [text]);
    this.#form.say(faults, warnings);
  }

  /** Asks the server what the page was asked. */
  async #compare() {
    await this.predict();
    const found = this.#found;
    if (found === null) return;
    const body = this.#body;
    page.ask.disabled = true;
    page.serverCard.setAttribute("aria-busy", "true");
    try {
      const answer = await found.server.predict(body);
      this.#there = { body, answer };
      showAnswer(page.serverCard, answer.text, this.#info, serverTime(answer), (name) => this.#form.has(name));
      if (this.#model === null) this.#say(answer.text, new Map());
    } catch (error) {
      this.#there = null;
      showNote(page.serverCard, messageOf(error));
    } finally {
      page.ask.disabled = false;
      page.serverCard.removeAttribute("aria-busy");
    }
    this.#judge();
    this.#speak();
    if (page.parity.dataset["state"] === "different") await this.#explain(found.server);
  }

  /** Says whether both answers are the same. */
  #judge() {
    const stale = this.#there !== null && this.#there.body !== this.#body;
    page.serverCard.dataset["stale"] = String(stale);
    if (this.#model === null) {
      showParity("none", "The model does not run in this page");
    } else if (this.#there === null) {
      showParity("none", "The server has not been asked yet");
    } else if (stale) {
      showParity("none", "The server answered an earlier record");
    } else if (this.#here?.body === this.#body) {
      const parted = difference(comparable(this.#here.text), comparable(this.#there.answer.text));
      if (parted === null) showParity("equal", "Equal to the last bit");
      else showParity("different", `Different at character ${parted.at + 1}: here …${parted.one}…, there …${parted.other}…`);
    }
  }

  /**
   * Finds out why the server answers something else.
   *
   * @param {Server} server
   */
  async #explain(server) {
    const info = await server.info().catch(() => null);
    if (info === null || info.bundle_sha256 === this.#info.bundle_sha256) return;
    showParity("different", `The server has another model now (version ${info.version}); load this page again`);
  }

  /** Reads the answer out once nothing has changed for a while. */
  #speak() {
    clearTimeout(this.#spokenPause);
    this.#spokenPause = setTimeout(() => {
      const headline = briefly(page.pageCard);
      const faults = page.fields.querySelectorAll('[aria-invalid="true"]').length;
      const parity = this.#found === null ? "" : page.parityText.textContent;
      page.spoken.textContent = [headline, faults > 0 ? counted(faults, "field") + " to correct" : "", parity]
        .filter(Boolean)
        .join(". ");
    }, SPOKEN_PAUSE_MS);
  }

  async #verify() {
    const model = this.#model;
    if (model === null) return;
    page.verify.disabled = true;
    page.goldenResult.textContent = "Running…";
    page.goldenResult.dataset["state"] = "";
    const start = performance.now();
    try {
      const differing = await model.verify();
      const took = duration(performance.now() - start);
      const good = model.goldenRows - differing.length;
      page.goldenResult.dataset["state"] = differing.length === 0 ? "good" : "bad";
      page.goldenResult.textContent =
        differing.length === 0
          ? `${count(good)} of ${count(model.goldenRows)} equal to the last bit, in ${took}`
          : `${counted(differing.length, "row")} of ${count(model.goldenRows)} differ: ${differing.slice(0, 10).join(", ")}`;
    } catch (error) {
      page.goldenResult.dataset["state"] = "bad";
      page.goldenResult.textContent = messageOf(error);
    } finally {
      page.verify.disabled = false;
    }
  }
}

/**
 * The answer of a card in one line.
 *
 * @param {HTMLElement} card
 */
function briefly(card) {
  const words = [...card.querySelectorAll(".headline > *")].map((part) => part.textContent);
  return words.filter(Boolean).join(", ");
}

/** @param {Map<string, (Fault | Warning)[]>} complaints */
function texts(complaints) {
  return new Map([...complaints].map(([name, list]) => [name, list.map(faultText)]));
}

/** @param {ServerAnswer} answer */
function serverTime({ text, roundTripMs }) {
  const { prediction } = parseAnswer(text);
  const inside = prediction === undefined ? "" : `, ${duration(prediction.inference_time_ms)} of it in the model`;
  return `${duration(roundTripMs)} there and back${inside}`;
}

async function start() {
  const found = await findServer();
  if (found !== null) {
    showModel(found.info, null);
    showLinks(found.server);
  }
  const bundle = setting("modelet-bundle") ?? (found === null ? "model.bundle" : found.server.url("model/bundle"));
  const started = performance.now();
  /** @type {LoadedModel | null} */
  let model = null;
  try {
    model = await loadInWorker({ bundle: new URL(bundle, import.meta.url) });
  } catch (error) {
    if (found === null) throw error;
    showNote(page.pageCard, `The model does not run in this page: ${messageOf(error)}`);
  }
  const info = model?.info ?? found?.info;
  if (info === undefined) return;
  showModel(info, model);

  if (found !== null) byId("server-title", HTMLElement).textContent = `On the server, ${found.server.base.host}`;
  showNote(page.serverCard, "It is asked when you say so.");
  for (const part of [page.ask, page.serverCard, page.parity]) part.hidden = found === null;
  byId("submit", HTMLElement).dataset["server"] = String(found !== null);
  byId("privacy", HTMLElement).textContent =
    found === null
      ? "Predictions follow as you type. Nothing you type leaves this page."
      : "Predictions here follow as you type. Nothing is sent until you press the button.";
  byId("golden-note", HTMLElement).textContent =
    model === null
      ? "They run where the model runs."
      : `${counted(model.goldenRows, "record")} with the answers given when the model was packed, inside the model's file. ` +
        `Engine and model were ready in ${duration(performance.now() - started)}.`;
  page.verify.disabled = model === null || model.goldenRows === 0;
  if (found !== null && model !== null && found.info.bundle_sha256 !== model.sha256) {
    fail(`The server serves another model (${found.info.bundle_sha256.slice(0, 12)}…) than the bundle of this page has.`);
  }

  const playground = new Playground(model, found, info);
  await playground.predict();
}

start().catch((error) => {
  byId("name", HTMLElement).textContent = "No model";
  fail(error);
});
