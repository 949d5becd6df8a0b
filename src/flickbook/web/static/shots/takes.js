// Drafts of a shot: a few seeds as small moving pictures. Pressing one keeps it: the shot takes its seed and its pictures.

import { ask, ROOT, worded } from "../api.js";
import { button, h, say } from "../draw.js";
import { made } from "../form.js";
import { jobs, WAITING } from "../jobs.js";
import { doing } from "../stage.js";
import { ShotError, shots } from "./list.js";
import { stripOfDraft } from "./strip.js";

const COUNT = 3, SHOWN = 9; // drafts that one press makes, and that a shot keeps
const PAUSE = 450;          // milliseconds between two previews of a running draft

class Takes extends HTMLElement {
  #known = new Map(); // jobs by id
  #tiles = new Map(); // tiles by the id of their job
  #listed = "";

  connectedCallback() {
    if (this.firstChild) return;
    this.wall = h("div", { class: "fb-wall" });
    this.hint = h("p", { class: "fb-dim", role: "status" });
    this.append(
      h("header", {}, h("h4", {}, "Drafts"), button(`Make ${COUNT} drafts`, () => this.#make(), { class: "fb-button fb-small" })),
      this.hint, this.wall);
    jobs.start();
    jobs.addEventListener("change", () => this.draw());
    jobs.addEventListener("done", () => this.#look());
    this.#look();
  }

  /** Requests the state of the drafts that are not known to be done. */
  async #look() {
    const open = shots.shots.flatMap((shot) => shot.drafts).filter(({ id }) => !this.#known.has(id) || WAITING.includes(this.#known.get(id).state));
    for (const { id } of open) {
      try {
        this.#known.set(id, await ask(`jobs/${id}`));
      } catch (error) {
        if (error.status === 404) shots.change(() => shots.shots.forEach((shot) => { shot.drafts = shot.drafts.filter((draft) => draft.id !== id); }), false);
      }
    }
    this.draw();
  }

  draw() {
    if (!this.wall || !shots.shots.length) return;
    const shot = shots.current;
    for (const job of jobs.active) if (shots.owns(job.id)) this.#known.set(job.id, job);
    const found = shot.drafts.map((draft) => ({ draft, job: this.#known.get(draft.id) }));
    const listed = `${shot.id} ${shot.drafts.map(({ id }) => id)}`;
    if (listed !== this.#listed) {
      this.#listed = listed;
      this.wall.replaceChildren(...shot.drafts.map(({ id }) => this.#tile(id).element));
      if (found.some(({ job }) => !job)) this.#look();
    }
    found.forEach(({ draft, job }) => this.#state(shot, draft, job));
    const ready = found.filter(({ job }) => job?.state === "completed").length;
    const error = found.find(({ job }) => job?.state === "failed")?.job.error?.message;
    const text = error ? `Failed: ${error}` : !found.length ? "Three seeds, each run for the first 40 % of the steps."
      : ready < found.length ? `${ready} of ${found.length} ready` : "Press the draft to keep; the shot takes its seed.";
    this.hint.classList.toggle("wrong", Boolean(error));
    if (this.hint.textContent !== text) this.hint.textContent = text;
  }

  #tile(id) {
    if (!this.#tiles.has(id)) {
      const picture = h("div", { class: "fb-noise" }), words = h("span", {});
      const element = h("button", { type: "button", class: "fb-draft", disabled: true, onclick: () => this.#keep(id) }, picture, words);
      this.#tiles.set(id, { element, picture, words, stamp: 0, tag: "", done: false });
    }
    return this.#tiles.get(id);
  }

  #state(shot, draft, job) {
    const tile = this.#tile(draft.id), ready = job?.state === "completed", kept = shot.chosen === draft.id;
    const old = draft.basis !== shots.basis(shot);
    const text = !job ? "…" : !ready ? doing(job) : kept ? "✓ kept" : old ? "of other settings" : `seed ${draft.seed}`;
    if (tile.words.textContent !== text) tile.words.textContent = text;
    tile.element.disabled = !ready;
    tile.element.setAttribute("aria-pressed", String(kept));
    tile.element.setAttribute("aria-label", `draft with seed ${draft.seed}, ${text}`);
    tile.element.classList.toggle("fb-old", old && !kept);
    if (ready && !tile.done) {
      tile.done = true;
      this.#picture(tile, `${ROOT}/jobs/${draft.id}/preview`);
    } else if (job?.state === "running") this.#moving(tile, draft.id);
  }

  /** The newest preview of a running draft. */
  async #moving(tile, id) {
    const now = Date.now();
    if (now - tile.stamp < PAUSE) return;
    tile.stamp = now;
    const answer = await fetch(`${ROOT}/jobs/${id}/preview`).catch(() => null);
    const tag = answer?.headers.get("etag");
    if (answer?.status !== 200 || tag === tile.tag || tile.done) return;
    tile.tag = tag;
    this.#picture(tile, URL.createObjectURL(await answer.blob()));
  }

  #picture(tile, url) {
    const picture = h("img", { src: url, alt: "" });
    picture.decode().catch(() => {}).then(() => {
      if (tile.done && url.startsWith("blob:")) return URL.revokeObjectURL(url);
      if (tile.picture.src?.startsWith("blob:")) URL.revokeObjectURL(tile.picture.src);
      tile.picture.replaceWith(picture);
      tile.picture = picture;
    });
  }

  /** Makes drafts of the selected shot. */
  async #make() {
    const shot = shots.current, timeline = document.querySelector("flickbook-timeline");
    shots.refused = null;
    try {
      const found = await this.#sent(shot);
      for (const job of found) this.#known.set(job.id, job);
      const basis = shots.basis(shot);
      const fresh = found.map((job) => ({ id: job.id, seed: job.seed, basis }));
      const before = shot.drafts.filter(({ id }) => id === shot.chosen);
      const rest = shot.drafts.filter(({ id }) => id !== shot.chosen);
      shots.change(() => { shot.drafts = [...fresh, ...before, ...rest].slice(0, SHOWN); }, false);
      found.forEach((job) => jobs.update(job));
    } catch (error) {
      const place = shots.place(shot.id) + 1;
      timeline.refuse(error instanceof ShotError || error instanceof TypeError ? error : new ShotError(place, worded(error), error.field));
    }
  }

  async #sent(shot) {
    const { body, first, last } = shots.draft(shot);
    const seeds = Array.from({ length: COUNT }, () => Math.floor(Math.random() * 2 ** 32));
    const image = first ?? (shot.begins ? await this.#before(shot) : null);
    if (!image && !last) return (await made("drafts", { json: { ...body, seeds } })).data;
    const found = [];
    for (const seed of seeds) {
      const form = new FormData();
      form.append("request", JSON.stringify({ ...body, seed, kind: "draft" }));
      if (image) form.append("image", image);
      if (last) form.append("last_image", last);
      found.push(await made("jobs", { form }));
    }
    return found;
  }

  /** The last frame of the kept draft of the shot before. */
  async #before(shot) {
    const place = shots.place(shot.id), before = shots.shots[place - 1];
    if (!before?.chosen) throw new ShotError(place + 1, `Drafts begin from the kept draft of shot ${place}; make drafts of it and keep one first`, "begins");
    const answer = await fetch(`${ROOT}/jobs/${before.chosen}/last`);
    if (!answer.ok) throw new ShotError(place + 1, `the kept draft of shot ${place} is gone; make drafts of it and keep one`, "begins");
    return new File([await answer.blob()], "last-frame.png", { type: "image/png" });
  }

  /** Keeps a draft, or lets the kept one go. */
  async #keep(id) {
    const shot = shots.current, draft = shot.drafts.find((each) => each.id === id);
    if (shot.chosen === id) return shots.change(() => Object.assign(shot, { chosen: null, seed: "", strip: "" }));
    shots.change(() => Object.assign(shot, { chosen: id, seed: String(draft.seed) }));
    try {
      const strip = await stripOfDraft(`${ROOT}/jobs/${id}/preview`);
      const now = shots.shots.find((each) => each.id === shot.id);
      if (now?.chosen === id) shots.change(() => Object.assign(now, { strip, shown: `${draft.basis} ${draft.seed}` }), false);
    } catch (error) {
      say(error.message, true);
    }
  }
}

customElements.define("flickbook-takes", Takes);
