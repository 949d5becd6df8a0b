// The timeline: a block for each shot, as wide as the shot is long. Blocks are dragged, and so are their right edges.

import { ask, link, Refused, worded } from "../api.js";
import { button, h, say } from "../draw.js";
import { fills, made, reveal } from "../form.js";
import { jobs, WAITING } from "../jobs.js";
import { MOST, ShotError, shots } from "./list.js";
import { Playhead } from "./playhead.js";
import { FRAMES, stripsOfFilm } from "./strip.js";

const NARROWEST = 60, WIDEST = 200; // pixels of the shortest block, and of a second of a short film
const TICKS = [0.25, 0.5, 1, 2, 5, 10, 30, 60, 300];
const FAR = 6;                      // pixels after which a press is a drag
const THUMB = 64;                   // pixels of a picture of a strip

const stamp = (seconds) => `${seconds.toFixed(seconds < 9.95 ? 1 : 0)} s`;
const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

class Timeline extends HTMLElement {
  #scale = 0;
  #drawn = "";
  #drag = null;
  #asked = ""; // the id of the film whose state was requested

  async connectedCallback() {
    if (this.firstChild) return;
    this.append(h("p", { class: "fb-dim", role: "status" }, "Loading the models…"));
    try {
      await shots.ready(this.getAttribute("model"));
    } catch (error) {
      return this.replaceChildren(h("p", { class: "wrong", role: "alert" }, worded(error)));
    }
    this.#build();
    shots.addEventListener("change", () => this.draw());
    jobs.addEventListener("change", () => this.#progress());
    new ResizeObserver(() => this.#drag || this.draw(true)).observe(this.track);
    this.draw();
  }

  #build() {
    this.refusal = h("flickbook-refusal", { for: "shots" });
    this.ruler = h("div", { class: "fb-ruler", "aria-hidden": "true" });
    this.blocks = h("ol", { class: "fb-blocks", "aria-label": "shots" });
    const add = h("button", { type: "button", class: "fb-add", "data-key": "add", "aria-label": "add a shot", title: "Add a shot", onclick: () => shots.add() }, "+");
    this.track = h("div", { class: "fb-track" }, this.ruler, h("div", { class: "fb-lane" }, this.blocks, add));
    new Playhead(this.track, this.ruler, this.blocks);
    this.total = h("p", { class: "fb-total", role: "status" });
    this.undo = h("button", { type: "button", class: "fb-button fb-quiet", onclick: () => shots.undo() }, "Undo");
    const file = h("input", { type: "file", accept: ".json", hidden: true, "aria-label": "a shot list", onchange: () => { this.open(file.files[0]); file.value = ""; } });
    const fresh = () => { if (!shots.written || confirm("Begin a new shot list? Undo brings this one back.")) shots.clear(); };
    this.replaceChildren(
      h("div", { class: "fb-head" },
        this.total,
        h("div", { class: "fb-list" },
          this.undo,
          button("New", fresh, { class: "fb-button fb-quiet" }),
          button("Open list", () => file.click(), { class: "fb-button fb-quiet" }), file,
          button("Download list", () => this.#download(), { class: "fb-button fb-quiet" })),
        button("Make the film", () => this.#make(), { class: "fb-button fb-primary fb-film" })),
      this.refusal, this.track, h("flickbook-defaults"));
    this.addEventListener("keydown", (event) => {
      const typing = event.target.closest("input, textarea, select");
      if (typing || event.key.toLowerCase() !== "z" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      shots.undo();
    });
  }

  /** Pixels of a second: the film fits, unless its shortest shot would be too narrow to press. */
  #scaled() {
    const lengths = shots.shots.map((shot) => shots.frames(shot) / shots.rate(shot));
    const room = Math.max(200, this.track.clientWidth - 74) / lengths.reduce((sum, each) => sum + each, 0);
    return Math.max(Math.min(room, WIDEST), Math.min(NARROWEST / Math.min(...lengths), WIDEST / 2));
  }

  draw(resized = false) {
    if (!this.track || this.#drag || !this.track.clientWidth) return;
    const scale = this.#scaled();
    const state = JSON.stringify([scale, shots.selected, shots.refused?.id, shots.models.length, shots.undoable,
      shots.fade, shots.shots.map((shot) => [shot.id, shot.prompt, shots.frames(shot), shots.rate(shot), shot.begins, shot.strip.length, shots.stale(shot)])]);
    if (state === this.#drawn) return;
    const chosen = shots.selected !== this.dataset.selected && !resized;
    this.#drawn = state;
    this.#scale = scale;
    this.dataset.selected = shots.selected;
    const focus = this.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    this.blocks.replaceChildren(...shots.shots.map((shot, place) => this.#block(shot, place)));
    this.querySelector(".fb-add").disabled = shots.shots.length >= MOST;
    this.undo.disabled = !shots.undoable;
    this.#measure();
    this.#progress();
    if (focus) this.querySelector(`[data-key="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
    if (chosen) this.#show(this.blocks.children[shots.place(shots.selected)]);
  }

  /** Scrolls the track, and nothing else, until a block is seen. */
  #show(block) {
    if (!block) return;
    const left = block.offsetLeft - 24, right = block.offsetLeft + block.offsetWidth + 24;
    if (left < this.track.scrollLeft) this.track.scrollLeft = left;
    else if (right > this.track.scrollLeft + this.track.clientWidth) this.track.scrollLeft = right - this.track.clientWidth;
  }

  /** The ruler and the total length. */
  #measure() {
    const seconds = shots.shots.reduce((sum, shot) => sum + shots.frames(shot) / shots.rate(shot), 0);
    const step = TICKS.find((each) => each * this.#scale >= 56) ?? 600;
    const ticks = Array.from({ length: Math.floor(seconds / step + 1e-6) + 1 }, (_, tick) => tick * step);
    this.ruler.style.width = `${seconds * this.#scale}px`;
    this.ruler.replaceChildren(...ticks.map((at) => h("span", { style: `left:${at * this.#scale}px` }, at < 60 ? `${Number(at.toFixed(2))} s` : `${Math.floor(at / 60)}:${String(at % 60).padStart(2, "0")}`)));
    const frames = shots.total(), rate = shots.rate();
    const text = `${counted(shots.shots.length, "shot")}, ${(frames / rate).toFixed(1)} s`;
    if (this.total.firstChild?.textContent !== text) this.total.replaceChildren(h("strong", {}, text), h("span", { class: "fb-dim" }, ` ${counted(frames, "frame")} at ${Math.round(rate * 100) / 100} fps`));
  }

  #block(shot, place) {
    const frames = shots.frames(shot), seconds = frames / shots.rate(shot), width = seconds * this.#scale;
    const { least, most } = shots.limits(), wrong = shots.refused?.id === shot.id;
    const words = shot.prompt.trim() || "no prompt yet";
    const picture = shot.strip ? this.#strip(shot, width) : h("span", { class: "fb-strip", "aria-hidden": "true" });
    const press = h("button", {
      type: "button", class: "fb-block", "data-key": `block-${shot.id}`, "aria-pressed": String(shot.id === shots.selected),
      "aria-label": `shot ${place + 1}: ${words}, ${stamp(seconds)}${shot.begins ? ", continues from the shot before" : ""}${wrong ? ", refused" : ""}`,
      title: words, onclick: () => shots.select(shot.id),
      onpointerdown: (event) => this.#lift(event, shot, place),
    },
    picture,
    h("span", { class: "fb-words" }, h("b", {}, wrong ? "!" : String(place + 1)), h("span", {}, words)),
    h("span", { class: "fb-length" }, stamp(seconds)));
    const edge = h("div", {
      class: "fb-edge", role: "slider", tabindex: "0", "data-key": `edge-${shot.id}`, "aria-label": `length of shot ${place + 1}`, "aria-orientation": "horizontal",
      "aria-valuemin": String(least), "aria-valuemax": String(most), "aria-valuenow": String(frames), "aria-valuetext": `${stamp(seconds)}, ${counted(frames, "frame")}`,
      onpointerdown: (event) => this.#stretch(event, shot), onkeydown: (event) => this.#keys(event, shot),
    });
    const kinds = [shot.begins && "fb-continues", wrong && "fb-refused", shots.stale(shot) && "fb-stale", !shot.strip && "fb-bare"];
    return h("li", { class: `fb-shot ${kinds.filter(Boolean).join(" ")}`, style: `width:${width}px`, "data-id": shot.id }, press, edge, h("span", { class: "fb-done", "aria-hidden": "true" }));
  }

  /** Pictures of the strip, about as many as the block has room for, over its whole width. */
  #strip(shot, width) {
    const count = Math.max(1, Math.round((width - 5) / THUMB)), room = (width - 5) / count, side = Math.max(THUMB, room);
    const slots = Array.from({ length: count }, (_, slot) => {
      const frame = count === 1 ? 0 : Math.round((slot * (FRAMES - 1)) / (count - 1));
      const place = `${-frame * side - (side - room) / 2}px ${(THUMB - side) / 2}px`;
      return h("i", { style: `background-image:url(${shot.strip});background-position:${place};background-size:${FRAMES * side}px ${side}px` });
    });
    return h("span", { class: "fb-strip", "aria-hidden": "true" }, ...slots);
  }

  /** Arrow keys on an edge change the length of its shot. */
  #keys(event, shot) {
    const { least, most, every } = shots.limits(), frames = shots.frames(shot), page = every * 8;
    const next = { ArrowLeft: frames - every, ArrowDown: frames - every, ArrowRight: frames + every, ArrowUp: frames + every,
      PageDown: frames - page, PageUp: frames + page, Home: least, End: most }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    const seconds = shots.seconds(shot, next);
    if (shots.frames(shot, seconds) !== frames) shots.edit(shot, "seconds", seconds, true);
  }

  /** Drags the right edge of a block. The scale stays until the edge is let go. */
  #stretch(event, shot) {
    if (event.button) return;
    event.preventDefault();
    const edge = event.currentTarget, block = edge.closest(".fb-shot"), began = event.clientX + this.track.scrollLeft;
    const seconds = shots.frames(shot) / shots.rate(shot);
    let frames = shots.frames(shot);
    edge.focus({ preventScroll: true });
    const moved = (now) => {
      this.#scroll(now.clientX);
      frames = shots.frames(shot, seconds + (now.clientX + this.track.scrollLeft - began) / this.#scale);
      const length = frames / shots.rate(shot);
      block.style.width = `${length * this.#scale}px`;
      block.querySelector(".fb-length").textContent = `${stamp(length)}, ${counted(frames, "frame")}`;
      edge.setAttribute("aria-valuenow", String(frames));
    };
    block.classList.add("fb-stretched");
    this.#follow(edge, event, moved, (kept) => {
      if (kept && frames !== shots.frames(shot)) shots.edit(shot, "seconds", shots.seconds(shot, frames), true);
      shots.select(shot.id);
    });
  }

  /** Drags a block to another place. A finger scrolls the track instead. */
  #lift(event, shot, place) {
    if (event.button || event.pointerType === "touch") return;
    const press = event.currentTarget, block = press.closest(".fb-shot"), began = event.clientX + this.track.scrollLeft;
    const others = [...this.blocks.children], middles = others.map((each) => each.offsetLeft + each.offsetWidth / 2);
    let to = place;
    const moved = (now) => {
      const by = now.clientX + this.track.scrollLeft - began;
      if (!block.classList.contains("fb-lifted") && Math.abs(by) < FAR) return;
      block.classList.add("fb-lifted");
      this.#scroll(now.clientX);
      const left = block.offsetLeft + by, right = left + block.offsetWidth;
      to = middles.filter((middle, other) => (other < place && middle < left) || (other > place && middle < right)).length;
      block.style.transform = `translateX(${by}px)`;
      others.forEach((each, other) => {
        if (other === place) return;
        const shift = other > place && other <= to ? -1 : other < place && other >= to ? 1 : 0;
        each.style.transform = shift ? `translateX(${shift * block.offsetWidth}px)` : "";
      });
    };
    this.#follow(press, event, moved, (kept) => {
      const lifted = block.classList.contains("fb-lifted");
      if (kept && lifted && to !== place) shots.move(shot, to);
      if (kept) shots.select(shot.id);
    });
  }

  /** Follows a pointer until it is let go; Escape stops without an effect. */
  #follow(element, event, moved, ended) {
    this.#drag = element;
    element.setPointerCapture(event.pointerId);
    const stop = (kept) => {
      element.removeEventListener("pointermove", moved);
      element.removeEventListener("pointerup", up);
      element.removeEventListener("pointercancel", cancel);
      document.removeEventListener("keydown", escape, true);
      this.#drag = null;
      this.#drawn = "";
      ended(kept);
      this.draw();
    };
    const up = () => stop(true), cancel = () => stop(false);
    const escape = (key) => key.key === "Escape" && stop(false);
    element.addEventListener("pointermove", moved);
    element.addEventListener("pointerup", up);
    element.addEventListener("pointercancel", cancel);
    document.addEventListener("keydown", escape, true);
  }

  /** Scrolls the track while something is dragged to its edge. */
  #scroll(x) {
    const { left, right } = this.track.getBoundingClientRect();
    if (x > right - 30) this.track.scrollLeft += 14;
    else if (x < left + 30) this.track.scrollLeft -= 14;
  }

  /** Opens a shot list: a JSON document. */
  async open(file) {
    this.refusal.tell("");
    try {
      const text = await file.text();
      let document;
      try {
        document = JSON.parse(text);
      } catch {
        throw new Error("it is not JSON");
      }
      const lost = shots.open(document.plan ? { shots: [] } : document);
      say(lost.length ? `The list is open, except ${lost.join(" and ")}.` : "The list is open.");
    } catch (error) {
      this.refusal.tell(`${file.name} cannot be opened: ${error.message}`);
    }
  }

  #download() {
    const url = URL.createObjectURL(new Blob([`${JSON.stringify(shots.document(), null, 2)}\n`], { type: "application/json" }));
    h("a", { href: url, download: "shots.json" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  async #make() {
    this.refusal.tell("");
    shots.refused = null;
    try {
      const job = await made("shots", shots.request());
      shots.job = job.id;
      jobs.submitted(job);
      jobs.update(job);
      say("Added to the queue.");
      reveal();
    } catch (error) {
      this.refuse(error);
    }
    shots.changed();
  }

  /** Shows an error beside the shot that it names, or else below the button. */
  refuse(error) {
    const [, number, text] = (error.message ?? "").match(/^shot ([0-9]+): (.*)$/s) ?? [];
    const shot = shots.shots[(error instanceof ShotError ? error.number : Number(number)) - 1];
    if (!shot) return this.refusal.tell(worded(error, { fade: "Cross-fade", size: "Size", num_inference_steps: "Steps", seed: "Seed", model: "Model" }));
    const own = error instanceof Refused ? new Refused(text, error.status, error.field) : error;
    shots.refused = { id: shot.id, text: worded(own, { prompt: "Prompt", seconds: "Seconds", seed: "Seed", begins: "Begins", camera: "Camera", text: "Caption", image: "First picture", last_image: "Last picture" }), field: error.field };
    shots.selected = shot.id;
    shots.changed();
  }

  /** How much of each shot is made. A film that ended gives the blocks its pictures. */
  async #progress() {
    if (!shots.job) return;
    const job = jobs.active.find((each) => each.id === shots.job);
    this.#made(job);
    if (job || this.#asked === shots.job) return;
    const id = this.#asked = shots.job;
    try {
      const ended = await ask(`jobs/${id}`);
      if (WAITING.includes(ended.state)) return;
      if (ended.state === "completed") await this.#strips(ended);
    } catch (error) {
      if (error.status !== 404) return console.warn(error.message);
    } finally {
      if (this.#asked === id) this.#asked = "";
    }
    if (shots.job === id) shots.change(() => { shots.job = null; }, false);
  }

  #made(job) {
    const { phase, index = 0 } = job?.state === "running" ? job.progress ?? {} : {};
    const same = job?.plan.shots.length === shots.shots.length, late = ["decode", "polish", "write"].includes(phase);
    let before = 0;
    [...this.blocks.children].forEach((block, place) => {
      const steps = same ? job.plan.shots[place].plan.num_inference_steps : 1;
      const part = !same ? 0 : phase === "denoise" ? (index - before) / steps : late ? 1 : 0;
      before += steps;
      block.querySelector(".fb-done").style.width = `${100 * Math.min(1, Math.max(0, part))}%`;
    });
  }

  /** Takes the pictures of the blocks from the finished film. */
  async #strips(job) {
    const now = shots.shots.map((shot) => [shot.id, `${shots.basis(shot)} ${shot.seed}`]);
    if (job.plan.shots.length !== now.length) return;
    const starts = [0, ...job.plan.prompt_at.map(([frame]) => frame), job.plan.num_frames].map((frame) => frame / job.plan.fps);
    shots.film = { id: job.id, starts, shots: now.map(([id]) => id) };
    const strips = await stripsOfFilm(await link(job.id, "film"), now.map((_, place) => [starts[place], starts[place + 1]]));
    shots.change(() => strips.forEach((strip, place) => {
      const [id, shown] = now[place], shot = shots.shots[shots.place(id)];
      const made = job.plan.shots[place].plan;
      if (shot && made.prompt === shots.plain(shot)) Object.assign(shot, { strip, shown });
    }), false);
  }
}

/** Fills the timeline with the shots of a Plan. Returns what it could not take. */
fills("shots", (plan) => {
  const first = plan.shots[0].plan;
  const defaults = { model: first.model, size: `${first.width}x${first.height}`, num_inference_steps: first.num_inference_steps,
    guidance_scale: first.guidance_scale, scheduler: first.scheduler, fps: first.fps, negative_prompt: first.negative_prompt || undefined };
  const lost = shots.open({ fade: plan.fade, defaults, shots: plan.shots.map(({ plan: own, begins }) => ({
    prompt: own.prompt, num_frames: own.num_frames - ((own.overlap || 1) - 1), begins, camera: own.polish?.camera, text: own.polish?.text, image: own.image,
    seed: Number.isSafeInteger(own.seed) ? own.seed : undefined })) });
  const given = (test) => plan.shots.some(({ plan: own }) => test(own));
  if (given((own) => own.loras.length)) lost.push("the LoRAs");
  if (plan.audio || given((own) => own.audio)) lost.push("the sound");
  if (given((own) => own.last_image || own.conditions?.length || own.reference_images?.length || own.control_video)) lost.push("the pictures and films that guide shots");
  if (given((own) => own.model !== first.model || own.num_inference_steps !== first.num_inference_steps || own.guidance_scale !== first.guidance_scale || own.scheduler !== first.scheduler || own.negative_prompt !== first.negative_prompt)) lost.push("settings of single shots");
  return lost;
});

customElements.define("flickbook-timeline", Timeline);
