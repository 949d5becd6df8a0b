// The state of the caller's jobs, polled from the service, so that a closed tab or a lost connection loses nothing.

import { ask, Refused } from "./api.js";

export const WAITING = ["queued", "running", "paused"];
const BUSY = 350, QUIET = 2500, HIDDEN = 6000, LONGEST = 8000;

/** Unfinished jobs, newest first, and the job that the page shows; dispatches an event on every change. */
class Jobs extends EventTarget {
  active = [];
  shown = null;      // the job on the stage
  count = 0;         // all running and waiting jobs, including those that are not listed
  lost = false;      // whether the service is unreachable
  #chosen = null;    // the id of the job that the user chose
  #wait = QUIET;
  #timer = 0;
  start() {
    if (this.#timer) return;
    this.#timer = 1;
    document.addEventListener("visibilitychange", () => document.hidden || this.soon());
    window.addEventListener("online", () => this.soon());
    this.#look();
  }

  /** Poll now. */
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

  /** Show a new job, unless another film waits or runs: that stays on the stage, and the next one follows when it ends.
   */
  submitted(job) {
    if (!this.active.some((each) => each.state !== "paused" && each.kind !== "draft")) return this.choose(job);
    this.#chosen = null;
  }

  /** Update a job from a response of the service. */
  update(job) {
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
      const [busy, queued, queue] = await Promise.all([
        ask("jobs?state=running&state=paused&limit=100"), ask("jobs?order=queue&limit=100"), ask("queue")]);
      const data = [...busy.data, ...queued.data];
      const gone = this.active.filter((job) => !data.some((each) => each.id === job.id));
      this.count = queue.counts.running + queue.counts.queued;
      this.active = data;
      const ended = await Promise.all(gone.map((job) => this.#ended(job)));
      if (ended.some(Boolean)) this.dispatchEvent(new CustomEvent("done"));
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

  /** Whether a job that is no longer listed has ended, and how; one far back in the queue has not. */
  async #ended(job) {
    try {
      const now = await ask(`jobs/${job.id}`);
      if (this.shown?.id === job.id) this.shown = now;
      return !WAITING.includes(now.state);
    } catch (error) {
      if (error.status === 404) {
        if (this.shown?.id === job.id) this.shown = this.#chosen = null;
        return true;
      }
      this.active.push(job); // it will be polled again
      return false;
    }
  }

  /** Choose the job on the stage: the chosen one, else a running one, else the last finished one. */
  async #stage() {
    const waiting = this.active.find((job) => job.id === this.#chosen);
    if (waiting) this.shown = waiting;
    else if (this.#chosen && this.shown?.id === this.#chosen) {
      // It is too far back in the queue to be listed, so it is requested by its id.
      if (WAITING.includes(this.shown.state)) await this.#ended(this.shown);
    } else {
      const films = this.active.filter((job) => job.kind !== "draft");
      const running = films.find((job) => job.id === this.shown?.id && job.state !== "paused")
        ?? films.find((job) => job.state === "running");
      if (running) this.shown = running;
      else if (!this.shown || this.shown.state === "running") {
        const { data } = await ask("jobs?state=completed&kind=film&kind=picture&kind=extension&kind=sequence&kind=shots&kind=tune&limit=1");
        this.shown = data[0] ?? null;
      }
    }
  }

  #tell() {
    this.dispatchEvent(new CustomEvent("change"));
  }
}

export const jobs = new Jobs();

/** Performs an action on a job and updates the page from the response. */
export async function change(job, what, json = undefined) {
  const now = await ask(`jobs/${job.id}/${what}`, { method: "POST", json });
  jobs.update(now);
  return now;
}

/** An element that is redrawn whenever a job changes. */
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
