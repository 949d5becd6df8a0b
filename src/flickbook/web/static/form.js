// Converts form values to requests of the service's API, and a Plan to form values.

import { ask, worded } from "./api.js";
import { h, say } from "./draw.js";
import { described, guided, guides } from "./guides.js";
import { jobs } from "./jobs.js";

const DRAFTS = 8;
let sending = false;
let key = null;
const senders = new Map();
const fillers = new Map();

/** Registers how a form of another module is sent: `how(names, values)` returns the created jobs. */
export function sends(what, how) {
  senders.set(what, how);
}

/** Registers how a form of another module takes the values of a Plan: `how(plan)` returns what it could not take. */
export function fills(task, how) {
  fillers.set(task, how);
}

/** The request body for a form's values, by field name. */
export function body(names, values) {
  const fields = {}, polish = {};
  names.forEach((name, place) => {
    const value = values[place];
    if (name === "keep_seed" || value === null || value === undefined || (value === "" && name !== "prompt")) return;
    if (name.startsWith("polish.")) polish[name.slice(7)] = value;
    else if (name === "size") [fields.width, fields.height] = sized(String(value));
    else if (name === "seed") fields.seed = whole(value);
    else if (name === "quality") fields.quality = quality(value);
    else if (name === "prompt_at") fields.prompt_at = turns(value);
    else if (name === "loras") fields.loras = loras(value);
    else if (["prompts", "prior_prompts"].includes(name)) fields[name] = String(value).split("\n").map((line) => line.trim()).filter(Boolean);
    else fields[name] = value;
  });
  if (!polish.steady) delete polish.steady;
  if (polish.speed === 1) delete polish.speed;
  if (polish.rate) polish.rate = Number(polish.rate);
  if (Object.keys(polish).length) fields.polish = polish;
  return fields;
}

function sized(text) {
  const [, width, height] = text.match(/^\s*([0-9]+)\s*[x×*]\s*([0-9]+)\s*$/i) ?? [];
  if (!height) throw new Error(`Size ${text}: must be width and height; write for example 128x128`);
  return [Number(width), Number(height)];
}

function turns(text) {
  return text.split("\n").map((line) => line.trim()).filter(Boolean).map((line) => {
    const [, frame, prompt] = line.match(/^([0-9]+)\s*:\s*(.+)$/) ?? [];
    if (!prompt) throw new Error(`Later prompts ${line}: must begin with a frame; write for example 8: a blue square`);
    return [Number(frame), prompt];
  });
}

function whole(text) {
  if (!/^\s*[0-9]{1,19}\s*$/.test(text)) throw new Error(`Seed ${text}: must be a whole number; leave it empty for a random seed`);
  const seed = Number(text);
  if (!Number.isSafeInteger(seed)) throw new Error(`Seed ${text}: is too large for the browser; use the command or the API`);
  return seed;
}

function quality(text) {
  if (/^\s*lossless\s*$/i.test(text)) return "lossless";
  if (!/^\s*[0-9]{1,3}\s*$/.test(text)) throw new Error(`Quality ${text}: must be 0 to 100, or lossless; leave it empty for the format's default`);
  return Number(text);
}

function loras(text) {
  return text.split(",").map((part) => part.trim()).filter(Boolean).map((part) => {
    const [, name, weight] = part.match(/^(.*?)(?::([0-9.]+))?$/);
    return { name, weight: weight === undefined ? 1 : Number(weight) };
  });
}

/** Sends a form: a film, an image, eight drafts, a sequence or a batch. `labels` are those of its fields by name, in
 *  the order of `values`. Returns the seed to show next. */
export async function send(what, labels, values) {
  const names = Object.keys(labels);
  if (sending) return values[names.indexOf("seed")] ?? null; // already sending
  sending = true;
  const place = document.querySelector(`flickbook-refusal[for="${what === "drafts" ? "film" : what}"]`);
  place?.tell("");
  try {
    const made = await sent(what, names, values);
    const first = made.find((job) => job.kind !== "draft") ?? made[0];
    if (what !== "drafts") jobs.submitted(first);
    made.forEach((job) => jobs.update(job));
    reveal();
    say(made.length > 1 ? `${made.length} jobs added to the queue.` : "Added to the queue.");
    return values[names.indexOf("keep_seed")] ? String(first.seed) : "";
  } catch (error) {
    place?.tell(worded(error, labels));
    // Without a response the job may exist: a retry with the same key returns it.
    if (!(error instanceof TypeError)) key = null;
    return values[names.indexOf("seed")] ?? null;
  } finally {
    sending = false;
  }
}

/** Scrolls to the drafts and the stage, which are beside the form, or below it on a narrow page. */
export function reveal() {
  const stage = [...document.querySelectorAll("flickbook-stage")].find((each) => each.offsetParent);
  const column = stage?.closest(".fb-own").parentElement, bottom = stage?.getBoundingClientRect().bottom;
  if (column?.getBoundingClientRect().top > innerHeight * 0.7 || bottom < innerHeight * 0.3) column.scrollIntoView({ block: "start" });
}

/** Sends a request that creates jobs; a retry after a lost response returns the same jobs. */
export async function made(path, request) {
  const content = JSON.stringify([path, request.json ?? [...request.form].map(([name, value]) => [name, value.name ?? value])]);
  if (key?.content !== content) key = { content, value: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}` };
  const answer = await ask(path, { ...request, headers: { "Idempotency-Key": key.value } });
  key = null;
  return answer;
}

async function sent(what, names, values) {
  if (senders.has(what)) return senders.get(what)(names, values);
  if (what === "batch") return batch(String(values[0] ?? ""));
  const fields = body(names, values);
  if (what === "sequence") return [await made("sequences", { json: fields })];
  const own = what === "drafts" ? "film" : what;
  const file = document.querySelector(`flickbook-begin[for="${own}"]`)?.file;
  const track = document.querySelector(`flickbook-sound[for="${own}"]`)?.file;
  const given = guides(own);
  Object.assign(fields, given.fields);
  if (!file) delete fields.strength;
  if (track) delete fields.audio;
  else delete fields.audio_fit;
  if (!track || !fields.audio_fade) delete fields.audio_fade;
  const parts = [...given.parts];
  if (file) parts.push([file.type.startsWith("video/") || file.type === "image/gif" ? "video" : "image", file]);
  if (track) parts.push(["audio", track]);
  if (what === "drafts") return (await made("drafts", request({ ...fields, seeds: DRAFTS }, parts))).data;
  if (what === "picture") fields.kind = "picture";
  return [await made("jobs", request(fields, parts))];
}

/** A request of these fields: JSON, or a form if there are files, [name, file] each. */
function request(fields, parts) {
  if (!parts.length) return { json: fields };
  const form = new FormData();
  form.append("request", JSON.stringify(fields));
  for (const [name, file] of parts) form.append(name, file);
  return { form };
}

async function batch(text) {
  const form = new FormData();
  const input = document.querySelector("flickbook-rows"), file = input?.file;
  if (!file && !text.trim()) throw new Error("Rows: there are none; write some, or choose a file");
  if (file && text.trim()) throw new Error("Rows: there are rows and a file; remove one of them");
  const named = text.trim().startsWith("{") ? "rows.jsonl" : "rows.csv";
  form.append("file", file ?? new File([`${text.trim()}\n`], named, { type: "text/plain" }));
  const { data } = await made("batches", { form });
  input?.take(null);
  return data;
}

/** Fills the form of films, images or sequences with the values of a Plan; reports what does not fit. */
export async function fill(plan) {
  if (!plan?.model || plan.task === "polish") throw new Error("this film was made from another film, so no form has its settings");
  const known = fillers.get(plan.task);
  const name = known ? plan.task : plan.task === "sequence" ? "sequence" : plan.num_frames === 1 ? "picture" : "film";
  document.querySelector(`#fb-tabs button[role="tab"][data-tab-id="${name}"]`)?.click();
  await new Promise((done) => setTimeout(done, 50));
  if (known) return told(await known(plan));
  // A larger integer was rounded when it was parsed, and would give another film.
  const exact = Number.isSafeInteger(plan.seed ?? 0);
  window[`flickbook_fill_${name}`](JSON.stringify(exact ? plan : { ...plan, seed: null }));
  const polish = plan.polish ?? {};
  const lacks = [
    !exact && "the seed",
    plan.loras?.length && "the LoRAs", (plan.image || plan.video) && "the picture or film it starts from",
    plan.audio && plan.audio !== "none" && "the sound file",
    [plan.last_image, plan.control_video, plan.face_video, plan.mask, plan.conditions?.length, plan.reference_images?.length].some(Boolean) && "the files that guide it",
    polish.rate && "the output frame rate",
    (polish.interpolate > 4 || polish.upscale > 4) && "the upscaling",
  ].filter(Boolean);
  if (plan.lora_text) return say(`The form has the settings of the sample, and the LoRA ${plan.lora_text}.`);
  told(lacks);
}

function told(lacks) {
  say(lacks.length ? `The form has these settings, except ${lacks.join(", ")}.` : "The form has these settings.");
}

/** Fills the form with the settings of a dropped Flickbook file. */
export async function load(file) {
  if (/\.json$/i.test(file.name)) {
    let content = null;
    try {
      content = JSON.parse(await file.text());
    } catch {
      throw new Error(`${file.name} is not JSON`);
    }
    const timeline = document.querySelector("flickbook-timeline");
    if (timeline?.offsetParent && Array.isArray(content?.shots)) return timeline.open(file);
    const plan = content?.plan ?? content?.recipe?.plan;
    if (!plan) throw new Error(`${file.name} has no recipe`);
    return fill(plan);
  }
  const form = new FormData();
  form.append("file", file);
  const { recipe } = await ask("recipes/inspect", { form });
  if (!recipe) throw new Error(`${file.name} has no Flickbook recipe`);
  return fill(recipe.plan);
}

const PAUSE = 500; // milliseconds without a key before the notes are requested

/** Shows notes on a prompt while it is typed: words that the model never learned. */
export function note(what, prompt, model) {
  const place = document.querySelector(`flickbook-notes[for="${what}"]`);
  if (!place) return;
  clearTimeout(place.timer);
  place.timer = setTimeout(() => place.look(String(prompt ?? "").trim(), model), PAUSE);
}

class Notes extends HTMLElement {
  #latest = "";

  connectedCallback() {
    this.setAttribute("role", "status");
  }

  async look(prompt, model) {
    const request = JSON.stringify([prompt, model]);
    if (request === this.#latest) return;
    this.#latest = request;
    const notes = prompt ? await this.#notes(prompt, model).catch(() => []) : [];
    if (request === this.#latest) this.textContent = notes.join(". ");
  }

  /** The notes of an estimate. A model that needs a picture or a video has none: the estimate would be refused. */
  async #notes(prompt, model) {
    const found = await described(model);
    if (found && (found.needs.length || !found.inputs.includes("text"))) return [];
    return (await ask("estimate", { json: { prompt, model } })).notes ?? [];
  }
}

/** Returns to a slider of frames its label with the duration: "Frames (2.0 s)". */
export function timed(frames, fps) {
  return { label: fps > 0 ? `Frames (${(frames / fps).toFixed(1)} s)` : "Frames", __type__: "update" };
}

/** Shows the error message of a refused form. */
class Refusal extends HTMLElement {
  connectedCallback() {
    this.setAttribute("role", "alert");
  }

  tell(text) {
    this.textContent = text;
    this.classList.toggle("shown", Boolean(text));
  }
}

/** The input image or film. It stays in the browser until it is sent. */
class Begin extends HTMLElement {
  file = null;

  connectedCallback() {
    if (this.firstChild) return;
    const film = this.getAttribute("for") === "film";
    this.input = h("input", {
      type: "file", accept: film ? "image/*,video/*" : "image/*", onchange: () => this.take(this.input.files[0] ?? null),
      "aria-label": film ? "a picture or a film to start from" : "a picture to start from",
    });
    this.shown = h("div", { class: "fb-input" });
    this.append(h("label", { class: "fb-file" }, film ? "Start from a picture or a film" : "Start from a picture", this.input), this.shown);
  }

  take(file) {
    this.file = file;
    for (const each of this.shown.querySelectorAll("img, video")) URL.revokeObjectURL(each.src);
    this.shown.replaceChildren();
    if (!file) this.input.value = "";
    this.closest(".fb-desk")?.classList.toggle("fb-has-input", Boolean(file));
    if (!file) return;
    const url = URL.createObjectURL(file);
    const moving = file.type.startsWith("video/");
    this.shown.append(
      moving ? h("video", { src: url, muted: true, loop: true, autoplay: true, playsInline: true }) : h("img", { src: url, alt: "" }),
      h("span", {}, file.name),
      h("button", { type: "button", class: "fb-button fb-quiet", onclick: () => this.take(null) }, "Remove"));
  }
}

/** The sound file of a film, with a player. It stays in the browser until it is sent. */
class Sound extends HTMLElement {
  file = null;

  connectedCallback() {
    if (this.firstChild) return;
    this.input = h("input", { type: "file", accept: "audio/*,video/*", onchange: () => this.take(this.input.files[0] ?? null) });
    this.shown = h("div", { class: "fb-input" });
    this.append(h("label", { class: "fb-file" }, "Sound file under the film", this.input), this.shown);
  }

  take(file) {
    this.file = file;
    for (const each of this.shown.querySelectorAll("audio")) URL.revokeObjectURL(each.src);
    this.shown.replaceChildren();
    if (!file) this.input.value = "";
    if (!file) return;
    this.shown.append(
      h("audio", { src: URL.createObjectURL(file), controls: true, "aria-label": file.name }),
      h("span", {}, file.name),
      h("button", { type: "button", class: "fb-button fb-quiet", onclick: () => this.take(null) }, "Remove"));
  }
}

/** The rows of a batch as a file. */
class Rows extends HTMLElement {
  file = null;

  connectedCallback() {
    if (this.firstChild) return;
    this.input = h("input", { type: "file", accept: ".csv,.jsonl,.toml", onchange: () => this.take(this.input.files[0] ?? null) });
    this.away = h("button", { type: "button", class: "fb-button fb-quiet", hidden: true, onclick: () => this.take(null) }, "Remove");
    this.append(h("label", { class: "fb-file" }, "Or a file: .csv, .jsonl or .toml", this.input), this.away);
  }

  take(file) {
    this.file = file;
    this.away.hidden = !file;
    if (!file) this.input.value = "";
  }
}

/** Example prompts for a model; pressing one puts it into the form. */
class Examples extends HTMLElement {
  connectedCallback() {
    if (this.firstChild) return;
    const prompts = this.getAttribute("prompts").split(" | ").map((each) => JSON.parse(each));
    const put = (text) => {
      const box = this.closest(".fb-desk").querySelector("textarea");
      box.value = text;
      box.dispatchEvent(new Event("input", { bubbles: true }));
      box.focus();
    };
    const chips = prompts.map((text) => h("button", { type: "button", class: "fb-chip", onclick: () => put(text) }, text));
    this.append(h("div", { class: "fb-chips", role: "group", "aria-label": "examples" }, ...chips));
  }
}

function dropping() {
  const clips = () => [...document.querySelectorAll("flickbook-clips")].find((each) => each.offsetParent);
  const carries = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    document.body.classList.toggle("fb-clips-wanted", Boolean(clips()));
    document.body.classList.add("fb-dropping");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("fb-dropping"));
  document.addEventListener("drop", async (event) => {
    document.body.classList.remove("fb-dropping");
    const file = event.dataTransfer?.files?.[0];
    if (!file) return;
    event.preventDefault();
    if (clips()) return clips().take([...event.dataTransfer.files]);
    const input = event.target.closest?.("flickbook-begin, flickbook-sound, [data-drop]");
    if (input) return input.take(file);
    await load(file).catch((error) => say(worded(error), true));
  });
}

dropping();
customElements.define("flickbook-refusal", Refusal);
customElements.define("flickbook-notes", Notes);
customElements.define("flickbook-begin", Begin);
customElements.define("flickbook-rows", Rows);
customElements.define("flickbook-sound", Sound);
customElements.define("flickbook-examples", Examples);
window.flickbook = { send, fill, load, note, timed, guided };
