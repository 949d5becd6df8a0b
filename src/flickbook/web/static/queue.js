// The queue: running and waiting jobs, in the order in which they run.

import { ask } from "./api.js";
import { button, h, spoken, titled } from "./draw.js";
import { Alive, change, jobs } from "./jobs.js";
import { shots } from "./shots/list.js";
import { doing } from "./stage.js";

const RANK = { running: 0, queued: 1, paused: 2 };

function order(one, other) {
  return RANK[one.state] - RANK[other.state] || (one.place ?? 999) - (other.place ?? 999)
    || (one.created_at - other.created_at);
}

class Queue extends Alive {
  #drawn = "";

  draw() {
    const waiting = jobs.active.filter((job) => job.id !== jobs.shown?.id && job.kind !== "draft").sort(order);
    // Redrawn only after visible changes, so that a pressed button stays in place.
    const state = JSON.stringify(waiting.map((job) => [job.id, job.state, job.stopping, job.place, spoken(job.eta_seconds), doing(job)]));
    if (state === this.#drawn) return;
    this.#drawn = state;
    const focus = this.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    if (!waiting.length) return this.replaceChildren();
    const queued = waiting.filter((job) => job.state === "queued");
    this.replaceChildren(
      h("h3", {}, "In the queue"),
      h("ol", { class: "fb-queue" }, ...waiting.map((job) => this.#row(job, queued))));
    if (focus) this.querySelector(`[data-key="${focus}"]`)?.focus();
  }

  #row(job, queued) {
    const place = queued.indexOf(job);
    const left = job.eta_seconds ? ` · ${spoken(job.eta_seconds)}` : "";
    const key = (what) => ({ "data-key": `${what}-${job.id}`, class: "fb-button fb-small" });
    const move = async (before) => {
      jobs.update(await ask(`jobs/${job.id}/reorder`, { json: { before } }));
    };
    return h("li", {},
      h("button", { type: "button", class: "fb-plain", "data-key": `show-${job.id}`, onclick: () => jobs.choose(job) },
        h("span", { class: "fb-name" }, titled(job)), h("span", { class: "fb-dim" }, `${doing(job)}${left}`)),
      place > 0 ? button("Move up", () => move(queued[place - 1].id), { ...key("up"), "aria-label": `move up: ${titled(job)}` }) : null,
      place >= 0 && place < queued.length - 1
        ? button("Move down", () => move(queued[place + 2]?.id ?? null), { ...key("down"), "aria-label": `move down: ${titled(job)}` }) : null,
      job.state === "paused"
        ? button("Resume", () => change(job, "resume"), { ...key("resume"), "aria-label": `resume: ${titled(job)}` })
        : button("Pause", () => change(job, "pause"), { ...key("pause"), "aria-label": `pause: ${titled(job)}` }),
      button("Cancel", () => change(job, "cancel"), { ...key("cancel"), "aria-label": `cancel: ${titled(job)}` }));
  }
}

/** The number of jobs and the remaining time, in the header of the page. */
class Line extends Alive {
  #requestedAt = 0;
  #left = null;

  async draw() {
    const count = Math.max(jobs.count, jobs.active.filter((job) => job.state !== "paused").length);
    if (count && Date.now() - this.#requestedAt > 2000) {
      this.#requestedAt = Date.now();
      this.#left = (await ask("queue").catch(() => ({}))).eta_seconds ?? null;
    }
    const left = this.#left ? `, about ${spoken(this.#left)} left` : "";
    const text = jobs.lost ? "service unreachable" : count ? `${count} ${count > 1 ? "jobs" : "job"}${left}` : "queue empty";
    if (this.textContent !== text) this.textContent = text;
  }
}

/** The button to log out, if a login is needed. */
class Leave extends HTMLElement {
  async connectedCallback() {
    const { closed } = await ask("/studio/session").catch(() => ({}));
    if (closed && !this.firstChild) {
      const leave = async (event) => {
        if (!shots.written) return;
        event.preventDefault();
        if (!confirm("Logging out removes the shot list from this browser. Download it first to keep it. Log out?")) return;
        const { currentTarget: form } = event;
        await shots.erase();
        form.submit();
      };
      this.append(h("form", { method: "post", action: "/studio/logout", onsubmit: leave }, h("button", { class: "fb-button fb-quiet" }, "Log out")));
    }
  }
}

customElements.define("flickbook-leave", Leave);
customElements.define("flickbook-queue", Queue);
customElements.define("flickbook-line", Line);
