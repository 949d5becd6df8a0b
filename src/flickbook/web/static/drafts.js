// The draft wall: drafts that were started together; the chosen ones are finished from where they stopped.

import { ask, ROOT } from "./api.js";
import { button, h } from "./draw.js";
import { Alive, jobs, WAITING } from "./jobs.js";
import { shots } from "./shots/list.js";
import { doing } from "./stage.js";

class Drafts extends Alive {
  #drafts = [];
  #chosen = new Set();
  #drawn = "";
  #listed = "";
  #first = false; // whether it is shown before the stage: from the first running draft until some are finished

  connectedCallback() {
    super.connectedCallback();
    jobs.addEventListener("done", this.#again);
    this.#again();
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    jobs.removeEventListener("done", this.#again);
  }

  #again = async () => {
    const { data: all } = await ask("jobs?kind=draft&state=completed&state=queued&state=running&state=paused&limit=64").catch(() => ({}));
    if (!all) return; // keep the current drafts
    const data = all.filter((job) => !shots.owns(job.id));
    // The drafts of one wall differ only in their seed.
    const wall = (job) => JSON.stringify({ ...job.plan, seed: 0 });
    this.#drafts = data.filter((job) => wall(job) === wall(data[0])).sort((one, other) => one.seed - other.seed);
    this.draw();
  };

  draw() {
    const unfinished = jobs.active.filter((job) => job.kind === "draft" && !shots.owns(job.id));
    const listed = unfinished.map((job) => job.id).join();
    if (listed !== this.#listed) {
      this.#listed = listed;
      this.#again();
    }
    this.#drafts = this.#drafts.map((job) => unfinished.find((each) => each.id === job.id) ?? job);
    this.#first ||= unfinished.length > 0;
    const state = JSON.stringify([this.#first, this.#drafts.map((job) => [job.id, job.state, WAITING.includes(job.state) && doing(job)]), [...this.#chosen]]);
    if (state === this.#drawn) return;
    this.#drawn = state;
    this.classList.toggle("fb-first", this.#first && this.#drafts.length > 0);
    if (!this.#drafts.length) return this.replaceChildren();
    const focus = this.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const done = this.#drafts.filter((job) => job.state === "completed").length;
    this.replaceChildren(
      h("h3", {}, "Drafts"),
      h("p", { class: "fb-dim" }, done < this.#drafts.length ? `${done} of ${this.#drafts.length} ready` : "Choose the drafts to finish."),
      h("div", { class: "fb-wall" }, ...this.#drafts.map((job) => this.#draft(job))),
      h("div", { class: "fb-actions" },
        button(`Finish ${this.#chosen.size || ""}`.trim(), () => this.#finish(), { class: "fb-button fb-primary", disabled: !this.#chosen.size, "data-key": "finish" }),
        button("Discard drafts", () => this.#remove(), { class: "fb-button fb-quiet", "data-key": "remove" })));
    if (focus) this.querySelector(`[data-key="${focus}"]`)?.focus();
  }

  #draft(job) {
    const ready = job.state === "completed";
    const toggle = () => {
      if (!this.#chosen.delete(job.id)) this.#chosen.add(job.id);
      this.draw();
    };
    return h("button", {
      type: "button", class: "fb-draft", "data-key": job.id, "aria-pressed": String(this.#chosen.has(job.id)), disabled: !ready,
      onclick: toggle, "aria-label": `draft with seed ${job.seed}${ready ? "" : `, ${doing(job)}`}`,
    },
    ready ? h("img", { src: `${ROOT}/jobs/${job.id}/preview`, alt: "" }) : h("div", { class: "fb-noise" }),
    h("span", {}, ready ? `seed ${job.seed}` : doing(job)));
  }

  async #finish() {
    const { data } = await ask("drafts/finish", { json: { ids: [...this.#chosen] } });
    this.#chosen.clear();
    this.#first = false;
    jobs.submitted(data[0]);
    data.forEach((job) => jobs.update(job));
  }

  async #remove() {
    if (!confirm(`Delete these ${this.#drafts.length} drafts?`)) return;
    this.#chosen.clear();
    this.#first = false;
    try {
      for (const job of [...this.#drafts]) {
        await ask(`jobs/${job.id}`, { method: "DELETE" });
        this.#drafts = this.#drafts.filter((each) => each.id !== job.id);
      }
    } finally {
      this.draw();
    }
    jobs.soon();
    this.draw();
  }
}

customElements.define("flickbook-drafts", Drafts);
