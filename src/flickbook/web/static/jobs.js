// What is known of the caller's jobs: asked again and again, so that nothing is lost with a tab or a connection.

import { ask, Refused } from "./api.js";

export const WAITING = ["queued", "running", "paused"];
const BUSY = 350, QUIET = 2500, HIDDEN = 6000, LONGEST = 8000;

/** The jobs that are not done, newest first, and the one that the page shows; tells of every change. */
class Jobs extends EventTarget {
  active = [];
  shown = null;      // the job on the stage
  lost = false;      // whether the service is out of reach
  #chosen = null;    // its id, where somebody chose it
  #wait = QUIET;
  #timer = 0;
  #known = new Map();

  start() {
    if (this.#timer) return;
    this.#timer = 1;
    document.addEventListener("visibilitychange", () => document.hidden || this.soon());
    window.addEventListener("online", () => this.soon());
    this.#look();
  }

  /** Look now. */
  soon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), 0);
  }

  /** Show this job on the stage. */
  choose(job) {
    this.#chosen = job.id;
    this.shown = job;
    this.#tell();
    this.soon();
  }

  /** What the service answered about a job is news too. */
  heard(job) {
    const place = this.active.findIndex((each) => each.id === job.id);
    const waits = WAITING.includes(job.state);
    if (place >= 0 && waits) this.active[place] = job;
    else if (place >= 0) this.active.splice(place, 1);
    else if (waits) this.active.unshift(job);
    if (this.shown?.id === job.id) this.shown = job;
    this.#tell();
    this.soon();
  }

  forget(id) {
    this.active = this.active.filter((job) => job.id !== id);
    if (this.shown?.id === id) this.shown = this.#chosen = null;
    this.dispatchEvent(new CustomEvent("done"));
    this.#tell();
  }

  async #look() {
    clearTimeout(this.#timer);
    try {
      const asked = WAITING.map((state) => `state=${state}`).join("&");
      const { data } = await ask(`jobs?${asked}&limit=100`);
      const before = this.active;
      this.active = data;
      for (const job of before) {
        if (!data.some((each) => each.id === job.id)) await this.#ended(job);
      }
      await this.#stage();
      this.#wait = document.hidden ? HIDDEN : data.some((job) => job.state !== "paused") ? BUSY : QUIET;
      this.lost = false;
    } catch (error) {
      if (error instanceof Refused && error.status < 500 && error.status !== 429) console.warn(error.message);
      this.lost = !(error instanceof Refused);
      this.#wait = Math.min(LONGEST, this.#wait * 1.6);
    }
    this.#tell();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), this.#wait);
  }

  /** A job that is not waiting any more: how it ended. */
  async #ended(job) {
    try {
      const now = await ask(`jobs/${job.id}`);
      this.#known.set(job.id, now);
      if (this.shown?.id === job.id) this.shown = now;
    } catch (error) {
      if (this.shown?.id === job.id) this.shown = null;
    }
    this.dispatchEvent(new CustomEvent("done"));
  }

  /** The stage has what was chosen; else what runs; else what was done last. */
  async #stage() {
    const waiting = this.active.find((job) => job.id === this.#chosen);
    if (waiting) this.shown = waiting;
    else if (this.#chosen && this.shown?.id === this.#chosen) return;
    else if (!this.#chosen) {
      const running = this.active.find((job) => job.state === "running" && job.kind !== "draft");
      if (running) this.shown = running;
      else if (!this.shown || this.shown.state === "running") {
        const { data } = await ask("jobs?state=completed&kind=film&kind=picture&kind=extension&kind=sequence&limit=1");
        this.shown = data[0] ?? null;
      }
    }
  }

  #tell() {
    this.dispatchEvent(new CustomEvent("change"));
  }
}

export const jobs = new Jobs();

/** Do something to a job, and know at once what the service said of it. */
export async function change(job, what, json = undefined) {
  const now = await ask(`jobs/${job.id}/${what}`, { method: "POST", json });
  jobs.heard(now);
  return now;
}

/** An element that is drawn anew whenever something about the jobs has changed. */
export class Alive extends HTMLElement {
  #draw = () => this.draw();

  connectedCallback() {
    jobs.start();
    jobs.addEventListener("change", this.#draw);
    this.draw();
  }

  disconnectedCallback() {
    jobs.removeEventListener("change", this.#draw);
  }
}
