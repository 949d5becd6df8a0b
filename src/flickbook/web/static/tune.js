// Trainings: the clips with their captions, the report of a check, and how a finished LoRA is used.

import { ask, ROOT, worded } from "./api.js";
import { h, spoken } from "./draw.js";
import { body, fill, made, sends } from "./form.js";

const CLIPS = /\.(mp4|m4v|mov|mkv|webm|avi|gif|webp|apng|png|jpe?g|bmp|avif)$/i;
const STILLS = /\.(gif|webp|apng|png|jpe?g|bmp|avif)$/i;
const SIDE = 144; // pixels of a thumbnail, which is shown at half of it
const CAPTIONS = /\.(txt|caption)$/i;
const LISTS = /\.(jsonl|csv)$/i;
const SHOWN = 3; // names of captions without a clip
const GIB = 2 ** 30;
const NAMES = ["file_name", "video", "image", "video_path", "image_path", "video_file_name", "image_file_name"];
const TEXTS = ["text", "caption", "prompt"];
const SEVERAL = "keep one, or use flickbook tune, which trains with each";
const NUMBERS = ["num_frames", "batch", "prior", "lr", "validation"];

const base = (path) => String(path).split(/[/\\]/).pop();
const stem = (name) => base(name).replace(/\.[^.]*$/, "");
const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

/** The rows of a CSV file with a header line, as objects. Its separator is the one that the header has most often. */
function table(text) {
  const rows = [[""]], header = text.split("\n", 1)[0];
  const separator = [",", ";", "\t"].reduce((best, each) => (header.split(each).length > header.split(best).length ? each : best));
  const cells = new RegExp(`"((?:[^"]|"")*)"|([^"${separator}\\r\\n]+)|(${separator}|\\r?\\n)`, "g");
  for (const [, quoted, plain, mark] of text.matchAll(cells)) {
    const row = rows.at(-1);
    if (mark === separator) row.push("");
    else if (mark) rows.push([""]);
    else row[row.length - 1] += quoted?.replaceAll('""', '"') ?? plain;
  }
  const [names, ...others] = rows;
  return others.map((row) => Object.fromEntries(names.map((name, place) => [name.trim(), row[place] ?? ""])));
}

/** The captions in a list, by the name of their file. */
async function listed(file) {
  const text = (await file.text()).replace(/^\uFEFF/, "");
  const found = new Map();
  let rows;
  try {
    rows = /\.csv$/i.test(file.name) ? table(text) : text.split("\n").filter((line) => line.trim()).map((line) => JSON.parse(line));
  } catch {
    throw new Error(`${file.name} has a line that is not JSON; correct it`);
  }
  for (const row of rows) {
    const name = NAMES.map((each) => row?.[each]).find(Boolean), caption = TEXTS.map((each) => row?.[each]).find(Boolean);
    if (!name || !caption) continue;
    const [text, ...others] = [caption].flat().map(String);
    if (others.length || (found.get(base(name)) ?? text) !== text) throw new Error(`${file.name} has several captions for ${base(name)}; ${SEVERAL}`);
    found.set(base(name), text);
  }
  if (!found.size) throw new Error(`${file.name} lists no clip with a caption; it needs file_name and text`);
  return found;
}

/** The first frame of a clip or a picture; empty for a format that the browser cannot read. */
function drawn(file) {
  const canvas = h("canvas", { width: SIDE, height: SIDE, "aria-hidden": "true" }), url = URL.createObjectURL(file);
  const still = STILLS.test(file.name), source = document.createElement(still ? "img" : "video");
  const draw = () => {
    const width = source.videoWidth || source.naturalWidth, height = source.videoHeight || source.naturalHeight;
    const part = Math.min(width, height);
    canvas.getContext("2d").drawImage(source, (width - part) / 2, (height - part) / 2, part, part, 0, 0, SIDE, SIDE);
    URL.revokeObjectURL(url);
  };
  source.addEventListener(still ? "load" : "loadeddata", draw);
  source.addEventListener("error", () => URL.revokeObjectURL(url));
  if (!still) Object.assign(source, { muted: true, preload: "auto" });
  source.src = url;
  return canvas;
}

/** The clips of a dataset, each with its caption. They stay in the browser until they are sent. */
class Clips extends HTMLElement {
  #clips = new Map(); // name -> {file, caption}
  #waiting = new Map(); // captions, by the name of their clip or by its stem
  #given = new Map(); // those of the files that are being added

  connectedCallback() {
    if (this.firstChild) return;
    this.input = h("input", {
      type: "file", multiple: true, accept: "video/*,image/*,.txt,.caption,.jsonl,.csv", "aria-label": "clips and captions",
      onchange: () => this.take([...this.input.files]),
    });
    this.count = h("p", { class: "fb-dim", role: "status" });
    this.list = h("ul", { class: "fb-clips", "aria-label": "clips" });
    this.append(
      h("label", { class: "fb-file fb-drop" }, "Drop clips and captions here, or choose files", this.input,
        h("span", { class: "fb-dim" }, "Videos or pictures; a caption is a .txt file of the same name, a line of metadata.jsonl, or is written below.")),
      this.count, this.list);
    this.#tell();
  }

  /** Adds files: clips, captions, and lists of captions. */
  async take(files) {
    const place = document.querySelector('flickbook-refusal[for="tune"]');
    place?.tell("");
    this.#given.clear();
    try {
      for (const file of files) await this.#one(file);
    } catch (error) {
      place?.tell(worded(error));
    }
    this.input.value = "";
    this.#tell();
  }

  async #one(file) {
    if (CLIPS.test(file.name)) this.#add(file);
    else if (CAPTIONS.test(file.name)) this.#caption(stem(file.name), (await file.text()).trim());
    else if (LISTS.test(file.name)) (await listed(file)).forEach((text, name) => this.#caption(name, text));
    else throw new Error(`${file.name} is neither a clip nor a caption`);
  }

  #add(file) {
    const before = this.#clips.get(file.name);
    if (before && (before.file.size !== file.size || before.file.lastModified !== file.lastModified)) {
      throw new Error(`There is another clip named ${file.name} already; remove it, or rename one of the two`);
    }
    before?.row.remove();
    const thumbnail = drawn(file);
    const caption = h("textarea", { rows: 2, maxlength: "2000", placeholder: "What the clip shows", "aria-label": `caption of ${file.name}`, oninput: () => this.#tell() });
    const remove = () => {
      this.#clips.delete(file.name);
      for (const name of [file.name, stem(file.name)]) this.#waiting.delete(name);
      row.remove();
      this.#tell();
      this.input.focus();
    };
    const row = h("li", {},
      thumbnail,
      h("span", { class: "fb-name" }, file.name),
      h("button", { type: "button", class: "fb-button fb-quiet fb-small", "aria-label": `remove ${file.name}`, onclick: remove }, "Remove"),
      caption);
    caption.value = this.#waiting.get(file.name) ?? this.#waiting.get(stem(file.name)) ?? "";
    this.#clips.set(file.name, { file, caption, row });
    this.list.append(row);
  }

  /** Sets the caption of a clip, now or when the clip comes. `name` is that of its file, with or without the suffix. */
  #caption(name, text) {
    for (const [other, known] of this.#given) {
      const same = other === name || stem(other) === name || other === stem(name);
      if (same && known !== text) throw new Error(`${name} has several captions in these files; ${SEVERAL}`);
    }
    this.#given.set(name, text);
    this.#waiting.set(name, text);
    for (const [own, clip] of this.#clips) if (own === name || stem(own) === name) clip.caption.value = text;
  }

  #tell() {
    const bare = [...this.#clips.values()].filter((clip) => !clip.caption.value.trim()).length;
    const names = new Set([...this.#clips.keys()].flatMap((name) => [name, stem(name)]));
    const unused = [...this.#waiting.keys()].filter((name) => !names.has(name));
    const more = unused.length > SHOWN ? ", …" : "";
    const text = [
      this.#clips.size ? `${plural(this.#clips.size, "clip")}${bare ? `, ${bare} without a caption` : ""}` : "No clips yet",
      unused.length ? `${plural(unused.length, "caption")} without a clip: ${unused.slice(0, SHOWN).join(", ")}${more}` : "",
    ].filter(Boolean).join("; ");
    if (this.count.textContent !== text) this.count.textContent = text;
  }

  /** The parts of a form: the clips, and one list of their captions. */
  parts() {
    if (!this.#clips.size) throw new Error("Clips: there are none; drop some videos or pictures");
    const lines = [...this.#clips].map(([name, { caption }]) => JSON.stringify({ file_name: name, text: caption.value.trim() }));
    const list = new File([`${lines.join("\n")}\n`], "metadata.jsonl", { type: "application/x-ndjson" });
    return [...[...this.#clips.values()].map(({ file }) => file), list];
  }
}

/** The form of a training. */
function dataset(names, values) {
  const fields = body(names, values);
  for (const name of NUMBERS) {
    if (fields[name] === undefined) continue;
    if (!Number.isFinite(Number(fields[name]))) throw new Error(`${name} ${fields[name]}: must be a number`);
    fields[name] = Number(fields[name]);
  }
  const form = new FormData();
  form.append("request", JSON.stringify(fields));
  for (const file of document.querySelector("flickbook-clips").parts()) form.append("files", file, file.name);
  return form;
}

sends("tune", async (names, values) => [await made("tunes", { form: dataset(names, values) })]);

/** Checks the clips and shows the report. */
export async function check(labels, values) {
  const place = document.querySelector('flickbook-refusal[for="tune"]'), report = document.querySelector("flickbook-report");
  if (report.busy) return;
  place?.tell("");
  try {
    const form = dataset(Object.keys(labels), values);
    report.wait();
    report.show(await ask("tunes/check", { form }));
  } catch (error) {
    report.clear();
    place?.tell(worded(error, labels));
  }
}

/** The report of a check. */
class Report extends HTMLElement {
  busy = false;

  connectedCallback() {
    this.setAttribute("aria-live", "polite");
  }

  wait() {
    this.busy = true;
    this.replaceChildren(h("p", { class: "fb-dim", role: "status" }, "Reading the clips and the model…"));
  }

  clear() {
    this.busy = false;
    this.replaceChildren();
  }

  show(found) {
    this.busy = false;
    const { clips, videos, pictures, captions, seconds, words, problems } = found;
    const top = (counts, most) => Object.entries(counts).slice(0, most).map(([name, count]) => `${name} (${count})`).join(", ");
    const fits = found.memory_bytes <= found.free_bytes;
    const gib = (bytes) => `${(bytes / GIB).toFixed(1)} GiB`;
    const facts = [
      ["Clips", `${plural(clips, "clip")}: ${plural(videos, "video")}, ${plural(pictures, "picture")}; ${plural(captions, "caption")}`],
      videos ? ["Duration", `${seconds.total.toFixed(1)} s in all, ${seconds.median.toFixed(1)} s the median video`] : null,
      ["Sizes", top(found.sizes, 5)],
      ["Captions", `${words.least} to ${words.most} words`],
      ["Frequent words", top(found.frequent_words, 8) || "none"],
      ["Trained as", found.buckets.map((each) => `${each.width}×${each.height}, ${plural(each.num_frames, "frame")} (${each.captions})`).join("; ")],
      found.enlarged.clips ? ["Enlarged", `${plural(found.enlarged.clips, "clip")}, up to ${found.enlarged.factor} times`] : null,
      found.cropped >= 0.01 ? ["Cropped", `up to ${Math.round(100 * found.cropped)} % of a picture`] : null,
      found.stills ? ["Stills", `one frame of ${plural(found.stills, "video")} is used`] : null,
      found.slow ? ["Repeated frames", `in ${plural(found.slow, "video")} with a lower frame rate than the model's`] : null,
      ["Memory", `${gib(found.memory_bytes)} needed, ${gib(found.free_bytes)} free${fits ? "" : ": does not fit"}`],
      ["Examples", `${Math.round(found.examples_bytes / 2 ** 20)} MiB of the host's memory`],
      ["Time", `about ${spoken(found.hours * 3600)}`],
    ].filter(Boolean);
    this.replaceChildren(
      h("h3", {}, problems.length ? `${plural(problems.length, "problem")} in ${plural(clips, "clip")}` : "The clips can be used"),
      h("table", { class: "fb-table" }, h("tbody", {}, ...facts.map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, value))))),
      problems.length
        ? h("div", { class: "fb-problems", tabindex: "0", role: "region", "aria-label": "problems of the dataset" },
          h("table", { class: "fb-table" },
            h("thead", {}, h("tr", {}, ...["File", "Problem", "What is done"].map((text) => h("th", { scope: "col" }, text)))),
            h("tbody", {}, ...problems.map((each) => h("tr", {}, h("td", {}, each.where), h("td", {}, each.reason), h("td", {}, each.rule))))))
        : "");
  }
}

/** Fills the form of films with the settings of a training's film, and its LoRA. */
export async function use(job) {
  await fill({ ...job.plan, seed: null, lora_text: job.lora });
  const panel = [...document.querySelectorAll('[role="tabpanel"]')].find((each) => each.offsetParent);
  const more = [...(panel?.querySelectorAll("button") ?? [])].find((each) => each.textContent.trim().startsWith("More settings"));
  if (more && !more.classList.contains("open")) more.click();
  scrollTo({ top: 0 });
}

/** Frames of the film without and with the result. */
export function comparison(job) {
  const words = `without and with ${job.lora ? `the LoRA ${job.lora}` : "the training"}`;
  return h("figure", { class: "fb-comparison" },
    h("img", { src: `${ROOT}/jobs/${job.id}/comparison`, alt: `frames ${words}`, loading: "lazy" }),
    h("figcaption", { class: "fb-dim" }, `W${words.slice(1)}`));
}

customElements.define("flickbook-clips", Clips);
customElements.define("flickbook-report", Report);
window.flickbook.check = check;
