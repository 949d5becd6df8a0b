// The stage: the running or the last film. Only changed parts are redrawn, so that a film continues to play and
// buttons stay where they are.

import { ask, link, ROOT, save } from "./api.js";
import { button, crisp, h, pictured, say, spoken, still, titled } from "./draw.js";
import { fill } from "./form.js";
import { Alive, change, jobs, WAITING } from "./jobs.js";
import { comparison, use } from "./tune.js";

const PHASES = {
  load: "loading the model", encode: "reading the prompt", train: "training", denoise: "denoising", decode: "decoding",
  polish: "finishing", write: "writing the file",
};
const PARTS = { denoise: "step ", decode: "frame ", train: "update " };

/** The state of a job in a few words. */
export function doing(job) {
  if (job.stopping === "cancel") return "stopping";
  if (job.stopping === "pause") return "pausing";
  if (job.state === "queued" && job.progress?.phase === "pull") {
    const gigabytes = (bytes) => (bytes / 1e9).toFixed(2);
    const { index, total } = job.progress;
    return `waiting for the download of ${job.model}${total ? `, ${gigabytes(index)} of ${gigabytes(total)} GB` : ""}`;
  }
  if (job.state === "queued") return job.place > 1 ? `waiting, place ${job.place}` : "waiting in the queue";
  if (job.state === "failed") return "failed";
  if (job.state !== "running") return job.state;
  const { phase, index, total } = job.progress ?? {};
  if (!phase) return "starting";
  if (job.kind === "tune" && phase === "encode") return `reading the clips, ${index} of ${total}`;
  return total > 1 ? `${PHASES[phase]}, ${PARTS[phase] ?? ""}${index} of ${total}` : PHASES[phase];
}

class Stage extends Alive {
  #id = null;
  #state = "";
  #stamp = 0;

  draw() {
    const job = jobs.shown;
    if (!job) return this.#empty();
    if (job.id !== this.#id || job.state !== this.#state) this.#whole(job);
    this.#moving(job);
  }

  #empty() {
    if (this.#id === "") return;
    this.#id = "";
    const desk = this.closest(".fb-desk");
    const [first, second] = desk?.querySelector("flickbook-clips")
      ? ["Samples of the training appear here.", "Drop clips with captions, check them, and tune."]
      : desk?.querySelector("flickbook-shot") ? ["Your film appears here.", "Write a prompt for each shot, keep the drafts you like, and make the film."]
      : ["Your film appears here.", "Write a prompt and make a film, or drop a Flickbook film here to use its settings."];
    this.replaceChildren(h("div", { class: "fb-screen fb-empty" }, h("p", {}, first), h("p", { class: "fb-dim" }, second)));
  }

  #whole(job) {
    this.#id = job.id;
    this.#state = job.state;
    this.#release(this.screen);
    this.screen = h("div", { class: "fb-screen" });
    this.status = h("p", { class: "fb-status" });
    // Screen readers announce phases, not every step.
    this.announced = h("p", { class: "fb-announced", role: "status", "aria-live": "polite" });
    this.left = h("span", { class: "fb-left" });
    this.bar = h("progress", { max: 1, "aria-label": "progress" });
    const running = ["queued", "running", "paused"].includes(job.state);
    this.replaceChildren(
      this.screen,
      h("div", { class: "fb-under" }, this.status, this.left), this.announced,
      running ? this.bar : "",
      h("h2", { class: "fb-title" }, titled(job, 200)),
      (running ? null : noted(job)) ?? "",
      job.links.comparison ? comparison(job) : "",
      h("div", { class: "fb-actions" }, ...(running ? this.#steering(job) : actions(job))));
    if (job.state === "completed") this.#film(job);
    else this.#preview(job);
  }

  #steering(job) {
    const cancel = button("Cancel", () => change(jobs.shown ?? job, "cancel"), { class: "fb-button fb-cancel" });
    if (job.state === "paused") return [button("Resume", () => change(job, "resume")), cancel];
    return [button("Pause", () => change(jobs.shown ?? job, "pause")), cancel];
  }

  #moving(job) {
    const words = doing(job);
    const problem = job.error && job.state !== "completed" ? job.error.message : "";
    const text = jobs.lost ? "the service is unreachable; trying again" : problem ? `${words}: ${problem}` : words;
    if (this.status.textContent !== text) this.status.textContent = text;
    const phase = text.replace(/, [a-z]* ?[0-9]+ of [0-9]+$/, "");
    if (this.announced.textContent !== phase) this.announced.textContent = phase;
    this.status.classList.toggle("wrong", Boolean(problem) || jobs.lost);
    const left = job.state === "completed" ? facts(job) : job.eta_seconds ? `about ${spoken(job.eta_seconds)} left` : "";
    if (this.left.textContent !== left) this.left.textContent = left;
    this.bar.value = job.progress?.fraction ?? 0;
    this.setAttribute("aria-busy", job.state === "running");
    if (job.state === "running") this.#preview(job);
  }

  /** Loads the newest preview, at most three times a second; the worker makes previews while they are requested. */
  async #preview(job) {
    const now = Date.now(), screen = this.screen;
    if (!screen.firstChild) screen.append(h("div", { class: "fb-noise", "aria-hidden": "true" }));
    else if (now - this.#stamp < 300) return;
    if (!WAITING.includes(job.state)) return; // a failed job may have no preview
    this.#stamp = now;
    const answer = await fetch(`${ROOT}/jobs/${job.id}/preview`).catch(() => null);
    if (answer?.status !== 200 || this.screen !== screen) return;
    const tag = answer.headers.get("etag");
    if (tag === screen.dataset.tag) return;
    screen.dataset.tag = tag;
    const picture = h("img", { class: "fb-preview", alt: `preview of ${titled(job)}` });
    picture.src = URL.createObjectURL(await answer.blob());
    await picture.decode().catch(() => {});
    if (this.screen !== screen || this.#state === "completed") return URL.revokeObjectURL(picture.src);
    this.#release(screen);
    crisp(picture, screen);
  }

  #release(screen) {
    const before = screen?.querySelector("img.fb-preview");
    if (before) URL.revokeObjectURL(before.src);
  }

  async #film(job) {
    const url = await link(job.id, "film").catch((error) => say(error.message, true));
    if (!url || jobs.shown?.id !== job.id) return;
    crisp(player(job, url), this.screen);
  }
}

/** A film that plays, or an image. */
export function player(job, url, attributes = {}) {
  if (pictured(job)) return h("img", { src: url, alt: titled(job), class: "fb-film", ...attributes });
  return h("video", {
    src: url, class: "fb-film", controls: true, loop: true, autoplay: true, muted: true, playsInline: true,
    onerror: () => say("this browser cannot play this format; download the film instead", true),
    "aria-label": titled(job), ...attributes,
  });
}

/** The facts about a film in one line. */
export function facts(job) {
  const { width, height, num_frames, fps } = { ...job.plan, ...(job.result ?? {}) };
  const moving = num_frames > 1 ? `, ${num_frames} frames at ${Math.round(fps * 100) / 100} fps` : "";
  return `${width}×${height}${moving}, seed ${job.seed}, made in ${spoken(job.seconds)}`;
}

/** The notes on a finished film, such as words that the model never learned; null if there are none. */
export function noted(job) {
  const notes = job.result?.notes ?? [];
  return notes.length ? h("ul", { class: "fb-notes", "aria-label": "notes" }, ...notes.map((note) => h("li", {}, note))) : null;
}

/** The actions for a finished job: the download, and the others folded. */
export function actions(job, close = () => {}) {
  const remove = async () => {
    if (!confirm("Delete this film and its files?")) return;
    await ask(`jobs/${job.id}`, { method: "DELETE" });
    jobs.forget(job.id);
    close();
  };
  const again = async (seed) => {
    const now = await ask(`jobs/${job.id}/again`, { json: seed === undefined ? {} : { seed } });
    jobs.submitted(now);
    jobs.update(now);
    close();
  };
  const gone = button("Delete", remove, { class: "fb-button fb-quiet" });
  if (job.kind === "tune" && job.state === "completed") return trained(job, gone, close);
  if (job.state !== "completed") return [button("Try again", async () => { jobs.choose(await change(job, "retry")); close(); }, { class: "fb-button fb-primary" }), gone];
  const last = async () => {
    await begin(job);
    close();
  };
  const more = [
    favourite(job),
    button("Make again", () => again()),
    button("Make again with a new seed", () => again(null)),
    button("Use these settings", async () => { await fill(job.plan); close(); }),
    still(job) ? null : button("Continue from the last frame", last),
    button("Download recipe", () => save(job.id, "recipe")),
    still(job) ? null : button("Download contact sheet", () => save(job.id, "sheet")),
    gone,
    h("details", { class: "fb-recipe" }, h("summary", {}, "Recipe"), recipe(job)),
  ];
  return [
    button("Download", () => save(job.id, "film"), { class: "fb-button fb-primary" }),
    h("details", { class: "fb-more" }, h("summary", {}, "More"), h("div", { class: "fb-actions" }, ...more)),
  ];
}

/** The actions for a finished training. */
function trained(job, gone, close) {
  const more = [favourite(job), job.links.film ? button("Download film", () => save(job.id, "film")) : null, gone];
  return [
    job.links.lora ? button("Use it", async () => { close(); await use(job); }, { class: "fb-button fb-primary" }) : null,
    job.links.lora ? button("Download LoRA", () => save(job.id, "lora")) : null,
    job.links.network ? button("Download network", () => save(job.id, "network"), { class: "fb-button fb-primary" }) : null,
    h("details", { class: "fb-more" }, h("summary", {}, "More"), h("div", { class: "fb-actions" }, ...more)),
  ];
}

function favourite(job) {
  const own = button(job.favourite ? "★ Favourite" : "☆ Favourite", async () => {
    job = await ask(`jobs/${job.id}/favourite`, { json: { favourite: !job.favourite } });
    own.textContent = job.favourite ? "★ Favourite" : "☆ Favourite";
    own.setAttribute("aria-pressed", String(job.favourite));
    jobs.dispatchEvent(new CustomEvent("done"));
  }, { "aria-pressed": String(Boolean(job.favourite)), class: "fb-button fb-star" });
  return own;
}

function recipe(job) {
  const place = h("pre", { tabindex: "0", "aria-label": "recipe" }, "…");
  ask(`jobs/${job.id}/recipe`).then((recipe) => { place.textContent = JSON.stringify(recipe, null, 1); }, () => place.remove());
  return place;
}

/** Start the next film from the last frame of this one. */
async function begin(job) {
  const answer = await fetch(`${ROOT}/jobs/${job.id}/last`);
  if (!answer.ok) throw new Error("the last frame cannot be read");
  const file = new File([await answer.blob()], "last-frame.png", { type: "image/png" });
  document.querySelector('flickbook-begin[for="film"]')?.take(file);
  say("The next film starts from this frame.");
}

customElements.define("flickbook-stage", Stage);
