// What the forms hold becomes a request of the service's API, and a Plan becomes what the forms hold.

import { ask } from "./api.js";
import { h, say } from "./draw.js";
import { jobs } from "./jobs.js";

const DRAFTS = 8;

/** The body of a request of a form's values, by the names of its fields. */
export function body(names, values) {
  const told = {}, polish = {};
  names.forEach((name, place) => {
    const value = values[place];
    if (name === "keep_seed" || value === null || value === undefined || value === "") return;
    if (name.startsWith("polish.")) polish[name.slice(7)] = value;
    else if (name === "size") [told.width, told.height] = String(value).split(/[x×]/).map(Number);
    else if (name === "seed") told.seed = whole(value);
    else if (name === "prompt_at") told.prompt_at = turns(value);
    else if (name === "loras") told.loras = loras(value);
    else if (name === "prompts") told.prompts = String(value).split("\n").map((line) => line.trim()).filter(Boolean);
    else told[name] = value;
  });
  if (!polish.steady) delete polish.steady;
  if (polish.speed === 1) delete polish.speed;
  if (polish.rate) polish.rate = Number(polish.rate);
  if (Object.keys(polish).length) told.polish = polish;
  if (["mkv", "gif", "apng"].includes(told.container) || told.container === "png") delete told.quality;
  return told;
}

function turns(text) {
  return text.split("\n").map((line) => line.trim()).filter(Boolean).map((line) => {
    const [, frame, prompt] = line.match(/^([0-9]+)\s*:\s*(.+)$/) ?? [];
    if (!prompt) throw new Error(`${line} names no frame; write 8: what is seen from there on`);
    return [Number(frame), prompt];
  });
}

function whole(text) {
  if (!/^\s*[0-9]{1,19}\s*$/.test(text)) throw new Error(`seed ${text} must be a whole number; leave it empty to have one drawn`);
  return Number(text);
}

function loras(text) {
  return text.split(",").map((part) => part.trim()).filter(Boolean).map((part) => {
    const [, name, weight] = part.match(/^(.*?)(?::([0-9.]+))?$/);
    return { name, weight: weight === undefined ? 1 : Number(weight) };
  });
}

/** Send what a form holds: a film, a picture, eight drafts, a sequence or a batch. Answers the seed to show next. */
export async function send(what, names, values) {
  const place = document.querySelector(`flickbook-refusal[for="${what === "drafts" ? "film" : what}"]`);
  place?.tell("");
  try {
    const made = await sent(what, names, values);
    const first = made.find((job) => job.kind !== "draft") ?? made[0];
    made.forEach((job) => jobs.heard(job));
    if (what !== "drafts") jobs.choose(first);
    const stage = [...document.querySelectorAll("flickbook-stage")].find((each) => each.offsetParent);
    if (stage && stage.getBoundingClientRect().top > innerHeight * 0.7) stage.scrollIntoView({ block: "start" });
    say(made.length > 1 ? `${made.length} were put into the queue.` : "It was put into the queue.");
    return values[names.indexOf("keep_seed")] ? String(first.seed) : "";
  } catch (error) {
    place?.tell(error.message);
    return values[names.indexOf("seed")] ?? null;
  }
}

async function sent(what, names, values) {
  if (what === "batch") return batch(String(values[0] ?? ""));
  const told = body(names, values);
  if (what === "sequence") return [await ask("sequences", { json: told })];
  const file = document.querySelector(`flickbook-begin[for="${what === "drafts" ? "film" : what}"]`)?.file;
  if (!file) delete told.strength;
  if (what === "drafts") {
    if (file) throw new Error("drafts begin from words alone; take the picture away");
    return (await ask("drafts", { json: { ...told, seeds: DRAFTS } })).data;
  }
  if (what === "picture") told.kind = "picture";
  if (!file) return [await ask("jobs", { json: told })];
  const form = new FormData();
  form.append("request", JSON.stringify(told));
  form.append(file.type.startsWith("video/") || file.type === "image/gif" ? "video" : "image", file);
  return [await ask("jobs", { form })];
}

async function batch(text) {
  const form = new FormData();
  const file = document.querySelector("flickbook-rows")?.file;
  if (!file && !text.trim()) throw new Error("there are no rows; write some, or choose a file");
  const named = text.trim().startsWith("{") ? "rows.jsonl" : "rows.csv";
  form.append("file", file ?? new File([`${text.trim()}\n`], named, { type: "text/plain" }));
  return (await ask("batches", { form })).data;
}

/** Have the form of films, or of pictures, hold the choices of a Plan. */
export async function fill(plan) {
  const name = plan.num_frames === 1 ? "picture" : "film";
  document.querySelector(`#fb-tabs button[role="tab"][data-tab-id="${name}"]`)?.click();
  await new Promise((done) => setTimeout(done, 50));
  window[`flickbook_fill_${name}`]?.(JSON.stringify(plan));
  say("The form holds its settings now.");
}

/** A file of Flickbook's that was dropped: the form holds its settings. */
export async function load(file) {
  const form = new FormData();
  if (/\.json$/i.test(file.name)) {
    const told = JSON.parse(await file.text());
    const plan = told.plan ?? told.recipe?.plan;
    if (!plan) throw new Error(`${file.name} holds no recipe`);
    return fill(plan);
  }
  form.append("file", file);
  const { recipe } = await ask("recipes/inspect", { form });
  if (!recipe) throw new Error(`${file.name} carries no recipe of Flickbook's`);
  return fill(recipe.plan);
}

/** Where a form says what the service refused. */
class Refusal extends HTMLElement {
  connectedCallback() {
    this.setAttribute("role", "alert");
  }

  tell(text) {
    this.textContent = text;
    this.classList.toggle("shown", Boolean(text));
  }
}

/** The picture or the film that a film begins from. It stays in the browser until it is sent. */
class Begin extends HTMLElement {
  file = null;

  connectedCallback() {
    if (this.firstChild) return;
    const film = this.getAttribute("for") === "film";
    this.input = h("input", {
      type: "file", accept: film ? "image/*,video/*" : "image/*", onchange: () => this.take(this.input.files[0] ?? null),
      "aria-label": film ? "a picture or a film to begin from" : "a picture to begin from",
    });
    this.shown = h("div", { class: "fb-given" });
    this.append(h("label", { class: "fb-file" }, film ? "Begin from a picture or a film" : "Begin from a picture", this.input), this.shown);
  }

  take(file) {
    this.file = file;
    this.shown.replaceChildren();
    if (!file) this.input.value = "";
    this.closest(".fb-desk")?.classList.toggle("fb-begun", Boolean(file));
    if (!file) return;
    const url = URL.createObjectURL(file);
    const moving = file.type.startsWith("video/");
    this.shown.append(
      moving ? h("video", { src: url, muted: true, loop: true, autoplay: true, playsInline: true }) : h("img", { src: url, alt: "" }),
      h("span", {}, file.name),
      h("button", { type: "button", class: "fb-button fb-quiet", onclick: () => this.take(null) }, "Take it away"));
  }
}

/** The rows of a batch as a file. */
class Rows extends HTMLElement {
  file = null;

  connectedCallback() {
    if (this.firstChild) return;
    const input = h("input", { type: "file", accept: ".csv,.jsonl,.toml", onchange: () => { this.file = input.files[0] ?? null; } });
    this.append(h("label", { class: "fb-file" }, "Or a file: .csv, .jsonl or .toml", input));
  }
}

/** Prompts that show what a model is good at; pressing one puts it into the form. */
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
  const carries = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    document.body.classList.add("fb-dropping");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("fb-dropping"));
  document.addEventListener("drop", async (event) => {
    document.body.classList.remove("fb-dropping");
    const file = event.dataTransfer?.files?.[0];
    if (!file) return;
    event.preventDefault();
    const given = event.target.closest?.("flickbook-begin");
    if (given) return given.take(file);
    await load(file).catch((error) => say(error.message, true));
  });
}

dropping();
customElements.define("flickbook-refusal", Refusal);
customElements.define("flickbook-begin", Begin);
customElements.define("flickbook-rows", Rows);
customElements.define("flickbook-examples", Examples);
window.flickbook = { send, fill, load };
