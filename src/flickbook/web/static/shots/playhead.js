// The playhead: where the film on the stage plays, on the timeline of the list that it was made of.

import { h } from "../draw.js";
import { jobs } from "../jobs.js";
import { shots } from "./list.js";

/** A line over the blocks that follows the film. Pressing the ruler moves the film there. */
export class Playhead {
  #line = h("div", { class: "fb-playhead", hidden: true, "aria-hidden": "true" });
  #film = null;
  #frame = 0;

  constructor(track, ruler, blocks) {
    Object.assign(this, { track, ruler, blocks });
    track.append(this.#line);
    ruler.addEventListener("click", (event) => this.#seek(event));
    jobs.addEventListener("change", () => this.#look());
    shots.addEventListener("change", () => this.#draw());
  }

  /** Finds the film on the stage of this tab. */
  #look() {
    const film = [...document.querySelectorAll("flickbook-stage video")].find((each) => each.offsetParent) ?? null;
    const own = film && shots.film && jobs.shown?.id === shots.film.id ? film : null;
    if (own === this.#film) return;
    this.#film = own;
    for (const name of ["play", "seeked", "loadedmetadata"]) own?.addEventListener(name, () => this.#draw());
    this.#draw();
  }

  /** The blocks of the film's shots, if the list still has them in their order. */
  #parts() {
    const ids = shots.shots.map((shot) => shot.id);
    const same = shots.film && ids.length === shots.film.shots.length && ids.every((id, place) => id === shots.film.shots[place]);
    return same && this.blocks.children.length === ids.length ? [...this.blocks.children] : null;
  }

  #draw() {
    cancelAnimationFrame(this.#frame);
    const film = this.#film, parts = film?.isConnected && film.offsetParent && film.duration ? this.#parts() : null;
    this.#line.hidden = !parts;
    this.ruler.classList.toggle("fb-seeks", Boolean(parts));
    if (!parts) return;
    const { starts } = shots.film, now = film.currentTime;
    const place = Math.max(0, Math.min(parts.length - 1, starts.findLastIndex((start) => start <= now)));
    const part = Math.min(1, (now - starts[place]) / (starts[place + 1] - starts[place]));
    const block = parts[place], lane = this.blocks.offsetLeft;
    const left = (block.offsetParent === this.track ? 0 : lane) + block.offsetLeft + part * (block.offsetWidth - 5);
    this.#line.style.transform = `translateX(${left}px)`;
    if (!film.paused) this.#frame = requestAnimationFrame(() => this.#draw());
  }

  #seek(event) {
    const parts = this.#film && this.#parts();
    if (!parts) return;
    const place = parts.findIndex((block) => event.clientX < block.getBoundingClientRect().right);
    if (place < 0) return;
    const { left, width } = parts[place].getBoundingClientRect(), { starts } = shots.film;
    const part = Math.min(0.999, Math.max(0, (event.clientX - left) / width));
    this.#film.currentTime = starts[place] + part * (starts[place + 1] - starts[place]);
  }
}
