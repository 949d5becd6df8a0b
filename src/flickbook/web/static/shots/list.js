// The shot list of the tab Shots: what the user builds, kept in the browser, and the requests and documents made of it.

import { ask } from "../api.js";
import { kept, keep } from "./pictures.js";

const KEY = "flickbook-shots", UNDOS = 60;
export const MOST = 64;       // shots, as the service accepts
const OWN = ["prompt", "seconds", "begins", "camera", "text", "seed"];
const ALL = ["model", "size", "num_inference_steps", "seed"]; // the defaults that have a field
const PICTURES = { image: "first", last_image: "last" };
/** Options of a shot that a draft has too. */
const DRAFTED = ["negative_prompt", "guidance_scale", "fps", "scheduler", "speed", "preset"];

const fresh = () => crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
const set = (value) => value !== "" && value !== null && value !== undefined;
const filled = (values) => Object.fromEntries(Object.entries(values).filter(([, value]) => set(value)));

/** An error of one shot: its message stands beside that shot. */
export class ShotError extends Error {
  constructor(number, message, field) {
    super(message);
    this.number = number;
    this.field = field;
  }
}

/** The shots with their defaults. Dispatches "change" after every change. */
class ShotList extends EventTarget {
  shots = [];
  defaults = { model: "builtin", size: "", num_inference_steps: "", seed: "" };
  more = {};        // options of all shots that have no field here, from an opened list
  subjects = {};
  fade = 0;
  film = null;      // the last film of the list: its id, the seconds at which its shots begin and it ends, their ids
  job = null;       // the id of the last film that was made of the list, until its pictures are taken
  selected = null;  // the id of the selected shot
  refused = null;   // {id, text, field} of the last refusal
  models = [];
  files = new Map(); // pictures by their key
  #past = [];
  #key = KEY;
  #timer = 0;
  #ready = null;
  #erased = false;
  #typed = "";      // the shot and the field that the last change was typed into: one step of undo

  /** Loads the models and the list of this browser, once. */
  ready(model) {
    this.#ready ??= this.#load(model);
    return this.#ready;
  }

  async #load(model) {
    const [session, { data }] = await Promise.all([ask("/studio/session").catch(() => ({})), ask("models")]);
    this.models = data.filter((each) => each.num_frames.range[1] > 1);
    if (session.owner) this.#key = `${KEY}-${session.owner}`;
    this.defaults.model = this.models.some((each) => each.name === model) ? model : this.models[0].name;
    try {
      this.#restore(localStorage.getItem(this.#key));
    } catch {
      this.shots = [];
    }
    if (!this.shots.length) this.shots = [this.#shot(), this.#shot()];
    this.selected ??= this.shots[0].id;
    await this.#pictures();
    addEventListener("storage", (event) => {
      if (event.key !== this.#key) return;
      if (event.newValue === null) this.#erased = true; // the user logged out in another tab
      else this.#adopt(event.newValue);
    });
    addEventListener("pagehide", () => this.#save());
  }

  /** Takes the list that another tab of the browser saved. */
  async #adopt(text) {
    this.#restore(text);
    await this.#pictures();
    this.dispatchEvent(new CustomEvent("change"));
  }

  async #pictures() {
    const keys = this.shots.flatMap((shot) => Object.keys(PICTURES).map((name) => shot[name]?.key)).filter(Boolean);
    for (const [key, file] of await kept(`${this.#key}/`, keys)) this.files.set(key, file);
  }

  #restore(text) {
    const found = text ? JSON.parse(text) : null;
    if (!found?.shots?.length) return;
    for (const name of ["shots", "defaults", "more", "subjects", "fade", "job", "film"]) if (found[name] !== undefined) this[name] = found[name];
    this.shots = this.shots.map((shot) => ({ ...this.#shot(), ...shot }));
    if (!this.models.some((each) => each.name === this.defaults.model)) this.defaults.model = this.models[0].name;
    if (!this.shots.some((shot) => shot.id === this.selected)) this.selected = found.selected ?? this.shots[0].id;
  }

  #text() {
    const { shots, defaults, more, subjects, fade, job, film, selected } = this;
    return JSON.stringify({ shots, defaults, more, subjects, fade, job, film, selected });
  }

  #save() {
    clearTimeout(this.#timer);
    if (this.#erased) return;
    try {
      localStorage.setItem(this.#key, this.#text());
    } catch { /* the storage is full or closed: the list stays in the page */ }
  }

  #shot(values = {}) {
    const { num_frames, fps } = this.model;
    const seconds = num_frames.default / this.rate();
    return { id: fresh(), prompt: "", seconds: Number((fps.default ? seconds : 2).toFixed(4)), begins: "", camera: "", text: "", seed: "",
      image: null, last_image: null, drafts: [], chosen: null, strip: "", shown: "", more: {}, ...values };
  }

  /** The model of all shots. */
  get model() {
    return this.models.find((each) => each.name === this.defaults.model) ?? this.models[0];
  }

  /** The selected shot. */
  get current() {
    return this.shots.find((shot) => shot.id === this.selected) ?? this.shots[0];
  }

  /** The place of a shot, from 0. */
  place(id) {
    return this.shots.findIndex((shot) => shot.id === id);
  }

  rate(shot) {
    return Number(shot?.more?.fps ?? this.more.fps) || this.model.fps.default;
  }

  /** The fewest and the most frames of a shot, and the frames from one length to the next. */
  limits() {
    const { range: [low, high], every } = this.model.num_frames;
    const least = low > 1 || high === 1 ? low : low + every;
    return { least, most: high - ((high - low) % every), every };
  }

  /** The frames of a shot: the nearest number that the model makes. */
  frames(shot, seconds = shot.seconds) {
    const { least, most, every } = this.limits(), low = this.model.num_frames.range[0];
    const nearest = Math.round((seconds * this.rate(shot) - low) / every) * every + low;
    return Math.min(Math.max(nearest, least), most);
  }

  /** The seconds of so many frames, within the limits of the model. */
  seconds(shot, frames) {
    const { least, most } = this.limits();
    return Number((Math.min(Math.max(frames, least), most) / this.rate(shot)).toFixed(4));
  }

  /** The frames of the whole film: a cross-fade overlaps two shots, and a shot that continues repeats no frame. */
  total() {
    const fade = Number(this.fade) || 0;
    return this.shots.reduce((sum, shot, place) => sum + this.frames(shot) - (shot.begins && !fade ? 1 : 0) - (place ? fade : 0), 0);
  }

  /** Changes values and tells the page; `undoable` changes can be undone one by one. */
  change(act, undoable = true) {
    if (undoable) this.#typed = "";
    if (undoable) this.#past.push(this.#text());
    if (this.#past.length > UNDOS) this.#past.shift();
    act();
    this.changed();
  }

  changed() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#save(), 150);
    this.dispatchEvent(new CustomEvent("change"));
  }

  get undoable() {
    return this.#past.length > 0;
  }

  undo() {
    const text = this.#past.pop();
    if (!text) return;
    // What was made in the meantime stays.
    const { job, film } = this, drafts = new Map(this.shots.map((shot) => [shot.id, shot.drafts]));
    this.refused = null;
    this.selected = null;
    this.#typed = "";
    this.#restore(text);
    Object.assign(this, { job, film });
    for (const shot of this.shots) shot.drafts = drafts.get(shot.id) ?? shot.drafts;
    this.changed();
  }

  select(id) {
    if (this.selected === id) return;
    this.selected = id;
    this.changed();
  }

  /** Sets one value of a shot; a refusal of that shot is then out of date. */
  edit(shot, name, value, undoable = false) {
    const typed = `${shot.id} ${name}`;
    this.change(() => {
      shot[name] = value;
      if (this.refused?.id === shot.id) this.refused = null;
    }, undoable || this.#typed !== typed);
    this.#typed = undoable ? "" : typed;
  }

  add(after = this.shots.length - 1) {
    if (this.shots.length >= MOST) return;
    const before = this.shots[after];
    this.change(() => this.#insert(after + 1, this.#shot(before ? { seconds: before.seconds } : {})));
  }

  duplicate(shot) {
    if (this.shots.length >= MOST) return;
    this.change(() => this.#insert(this.place(shot.id) + 1, { ...structuredClone(shot), id: fresh() }));
  }

  #insert(place, shot) {
    this.shots.splice(place, 0, shot);
    this.selected = shot.id;
  }

  remove(shot) {
    this.change(() => {
      const place = this.place(shot.id);
      this.shots.splice(place, 1);
      if (!this.shots.length) this.shots.push(this.#shot());
      this.selected = this.shots[Math.min(place, this.shots.length - 1)].id;
      this.#first();
    });
  }

  /** Moves a shot to another place, from 0. */
  move(shot, place) {
    const from = this.place(shot.id), to = Math.min(Math.max(place, 0), this.shots.length - 1);
    if (from === to) return;
    this.change(() => {
      this.shots.splice(to, 0, ...this.shots.splice(from, 1));
      this.#first();
    });
  }

  /** No shot is before the first one. */
  #first() {
    if (this.shots[0]?.begins) this.shots[0].begins = "";
  }

  /** An empty list. */
  clear() {
    this.change(() => {
      this.shots = [this.#shot(), this.#shot()];
      Object.assign(this, { more: {}, subjects: {}, fade: 0, selected: this.shots[0].id, refused: null });
    });
  }

  /** Removes the list and its pictures from the browser. */
  async erase() {
    clearTimeout(this.#timer);
    this.#erased = true;
    localStorage.removeItem(this.#key);
    await kept(`${this.#key}/`, []);
  }

  /** Whether the user wrote anything. */
  get written() {
    return this.shots.some((shot) => shot.prompt.trim());
  }

  /** Keeps a picture of a shot; null removes it. */
  async picture(shot, name, file) {
    const key = file ? `${this.#key}/${fresh()}` : "";
    if (file) this.files.set(key, file);
    this.edit(shot, name, file ? { key, name: file.name } : null, true);
    if (file) await keep(key, file);
  }

  file(shot, name) {
    return this.files.get(shot[name]?.key) ?? null;
  }

  /** The shot list as `flickbook generate` reads it. Pictures are named; they lie beside the list. */
  document() {
    const shots = this.shots.map((shot) => ({ ...this.#options(shot),
      ...filled(Object.fromEntries(Object.keys(PICTURES).map((name) => [name, shot[name]?.name ?? ""]))) }));
    const subjects = Object.keys(this.subjects).length ? { subjects: this.subjects } : {};
    return { fade: Number(this.fade) || 0, ...subjects, defaults: this.#shared(), shots };
  }

  #options(shot) {
    const values = { ...shot.more, ...Object.fromEntries(OWN.map((name) => [name, shot[name]])) };
    if (values.seed !== "") values.seed = number(values.seed, "Seed");
    return filled(values);
  }

  #shared() {
    const values = { ...this.more, ...this.defaults };
    if (set(values.seed)) values.seed = number(values.seed, "Seed");
    if (set(values.num_inference_steps)) values.num_inference_steps = number(values.num_inference_steps, "Steps");
    return filled(values);
  }

  /** The request of the film: JSON, or a form if shots have pictures. Throws ShotError. */
  request() {
    const shots = this.shots.map((shot, place) => this.#of(place, () => this.#options(shot)));
    const json = { shots, defaults: this.#shared(), subjects: this.subjects, fade: Number(this.fade) || 0 };
    const form = new FormData();
    form.append("request", JSON.stringify(json));
    this.shots.forEach((shot, place) => {
      for (const name of Object.keys(PICTURES)) if (shot[name]) form.append(`shot-${place + 1}-${name}`, this.#file(shot, name, place));
    });
    return [...form].length > 1 ? { form } : { json };
  }

  #file(shot, name, place) {
    const file = this.file(shot, name);
    if (!file) throw new ShotError(place + 1, `the ${PICTURES[name]} picture ${shot[name].name} is not in this browser; choose it again`, name);
    return file;
  }

  #of(place, act) {
    try {
      return act();
    } catch (error) {
      throw new ShotError(place + 1, error.message, error.field);
    }
  }

  /** The body of a draft of a shot, and the last picture that guides it, if any. Throws ShotError. */
  draft(shot) {
    const place = this.place(shot.id), own = this.#of(place, () => this.#options(shot));
    const all = { ...this.#shared(), ...own }, body = { prompt: this.#of(place, () => this.worded(shot)), model: all.model, num_frames: this.frames(shot) };
    for (const name of ["num_inference_steps", ...DRAFTED]) if (set(all[name])) body[name] = all[name];
    if (all.size) [body.width, body.height] = String(all.size).split(/[x×]/).map(Number);
    return { body, last: shot.last_image ? this.#file(shot, "last_image", place) : null, first: shot.image ? this.#file(shot, "image", place) : null };
  }

  /** A prompt with the words of its subjects. */
  worded(shot) {
    return shot.prompt.replace(/\{([A-Za-z0-9_-]+)\}/g, (all, name) => {
      const words = this.subjects[name];
      if (!words) throw Object.assign(new Error(`Prompt ${all}: names no subject; write it below More`), { field: "prompt" });
      return words;
    });
  }

  /** The words of a prompt; empty if a subject is missing. */
  plain(shot) {
    try {
      return this.worded(shot).trim();
    } catch {
      return "";
    }
  }

  /** What decides the frames of a draft; a draft with other values is out of date. */
  basis(shot) {
    const { model, size, num_inference_steps } = this.defaults;
    const words = shot.prompt.trim();
    return JSON.stringify([words, this.frames(shot), model, size, num_inference_steps, shot.begins, shot.image?.key ?? ""]);
  }

  /** Whether the pictures of a shot's block show other settings than the shot has. */
  stale(shot) {
    return Boolean(shot.strip) && shot.shown !== `${this.basis(shot)} ${shot.seed}`;
  }

  /** Whether a job is a draft of one of the shots. */
  owns(id) {
    return this.shots.some((shot) => shot.drafts.some((draft) => draft.id === id));
  }

  /** Replaces the list with a document. Returns what it could not take, in words. */
  open(document) {
    if (!Array.isArray(document?.shots) || !document.shots.length) throw new Error("it has no shots");
    if (document.shots.length > MOST) throw new Error(`it has ${document.shots.length} shots, and at most ${MOST} are possible`);
    const lost = new Set(), { shots: _, ...defaults } = { ...document.defaults };
    const model = this.models.some((each) => each.name === defaults.model) ? defaults.model : this.defaults.model;
    if (defaults.model && defaults.model !== model) lost.add(`the model ${defaults.model}`);
    if (defaults.width && defaults.height) defaults.size ??= `${defaults.width}x${defaults.height}`;
    this.change(() => {
      const own = Object.fromEntries(ALL.map((name) => [name, String(defaults[name] ?? "")]));
      this.defaults = { ...own, model };
      const taken = [...ALL, "width", "height", ...OWN, "num_frames"];
      this.more = Object.fromEntries(Object.entries(defaults).filter(([name]) => !taken.includes(name)));
      this.subjects = Object.fromEntries(Object.entries(document.subjects ?? {}).map(([name, value]) => {
        if (value?.image) lost.add("the pictures");
        return [name, value?.words ?? value];
      }));
      if (document.audio) lost.add("the sound");
      this.fade = document.fade ?? 0;
      const share = Object.fromEntries([...OWN, "num_frames"].filter((name) => name !== "seed" && set(defaults[name])).map((name) => [name, defaults[name]]));
      this.shots = document.shots.map((each) => this.#opened({ ...share, ...each }, lost));
      this.selected = this.shots[0].id;
      this.refused = null;
    });
    return [...lost];
  }

  #opened(values, lost) {
    const shot = this.#shot();
    const more = { ...values };
    for (const name of [...OWN, "num_frames", ...Object.keys(PICTURES)]) delete more[name];
    for (const name of ["prompt", "begins", "camera", "text"]) shot[name] = String(values[name] ?? "");
    shot.seed = set(values.seed) ? String(values.seed) : "";
    shot.more = more;
    if (set(values.seconds)) shot.seconds = Number(values.seconds) || shot.seconds;
    else if (values.num_frames) shot.seconds = Number((values.num_frames / this.rate(shot)).toFixed(4));
    for (const name of Object.keys(PICTURES)) {
      if (!values[name]) continue;
      shot[name] = { key: "", name: String(values[name]).split(/[/\\]/).pop() };
      lost.add("the pictures");
    }
    return shot;
  }
}

function number(value, label) {
  if (!/^\s*[0-9]{1,16}\s*$/.test(value)) throw Object.assign(new Error(`${label} ${value}: must be a whole number`), { field: label.toLowerCase() });
  return Number(value);
}

export const shots = new ShotList();
