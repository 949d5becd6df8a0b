// The gallery: finished films, to search, view, compare and continue.

import { ask, link, ROOT, worded } from "./api.js";
import { button, crisp, h, say, titled } from "./draw.js";
import { jobs } from "./jobs.js";
import { actions, facts, noted, player } from "./stage.js";

const PAGE = 24;

class Gallery extends HTMLElement {
  #chosen = [];
  #last = null;
  #more = false;
  #text = "";
  #favourites = false;
  #states = ["completed"];
  #turn = 0;

  connectedCallback() {
    jobs.start();
    if (!this.firstChild) this.#build();
    jobs.addEventListener("done", this.#refresh);
    this.#again();
  }

  disconnectedCallback() {
    jobs.removeEventListener("done", this.#refresh);
  }

  #build() {
    let wait;
    const search = h("input", {
      type: "search", placeholder: "Search the prompts", "aria-label": "search the prompts", maxlength: "200",
      oninput: () => { clearTimeout(wait); this.#text = search.value; wait = setTimeout(this.#again, 200); },
    });
    const only = h("label", { class: "fb-check" },
      h("input", { type: "checkbox", onchange: (event) => { this.#favourites = event.target.checked; this.#again(); } }), "Favourites only");
    const which = h("select", { "aria-label": "which jobs", onchange: () => { this.#states = which.value.split(" "); this.#again(); } },
      h("option", { value: "completed" }, "Finished"), h("option", { value: "failed cancelled expired" }, "Failed or cancelled"));
    this.compare = button("Compare", () => this.#compare(), { disabled: true, class: "fb-button fb-primary" });
    this.grid = h("ul", { class: "fb-grid" });
    this.next = button("Show more", () => this.#page(), { class: "fb-button" });
    this.next.hidden = true;
    this.empty = h("p", { class: "fb-dim" }, "Nothing here yet.");
    this.append(h("div", { class: "fb-tools" }, search, which, only, this.compare), this.grid, this.empty, this.next);
  }

  #again = () => {
    this.#last = null;
    return this.#page();
  };

  /** Reloads as many jobs as are shown when something changed, and keeps the focus on the same job. */
  #refresh = async () => {
    const held = document.activeElement?.closest?.("[data-job]")?.dataset.job;
    this.#last = null;
    await this.#page(Math.min(100, Math.max(PAGE, this.grid.children.length)));
    if (held) this.grid.querySelector(`[data-job="${held}"] button`)?.focus({ preventScroll: true });
  };

  #page(count = PAGE) {
    return this.#load(count).catch((error) => say(worded(error), true));
  }

  async #load(count) {
    const turn = ++this.#turn;
    const words = new URLSearchParams({ limit: count });
    for (const state of this.#states) words.append("state", state);
    for (const kind of ["film", "picture", "extension", "sequence", "shots", "tune"]) words.append("kind", kind);
    if (this.#text.trim()) words.set("text", this.#text.trim());
    if (this.#favourites) words.set("favourite", "true");
    if (this.#last) words.set("after", this.#last);
    const { data, last_id, has_more } = await ask(`jobs?${words}`);
    if (turn !== this.#turn) return; // a newer request was sent meanwhile
    const cards = data.filter((job) => job.links.film || job.state !== "completed").map((job) => this.#card(job));
    if (this.#last) this.grid.append(...cards);
    else this.grid.replaceChildren(...cards);
    this.#last = last_id;
    this.next.hidden = !has_more;
    this.empty.hidden = this.grid.children.length > 0;
  }

  #card(job) {
    if (job.state !== "completed") return this.#lost(job);
    const mark = h("input", {
      type: "checkbox", checked: this.#chosen.some((each) => each.id === job.id), "aria-label": `compare ${titled(job)}`,
      onchange: () => this.#choose(job, mark),
    });
    const open = h("button", { type: "button", class: "fb-card", onclick: () => opened(job, open).catch((error) => say(worded(error), true)) },
      h("img", { src: `${ROOT}/jobs/${job.id}/thumbnail`, alt: "", loading: "lazy" }),
      h("span", { class: "fb-name" }, job.favourite ? "★ " : "", titled(job, 60)));
    return h("li", { "data-job": job.id }, open, h("label", { class: "fb-check" }, mark, "compare"));
  }

  /** A job without a result: its error and what can be done about it. */
  #lost(job) {
    const row = h("li", { class: "fb-lost" },
      h("p", { class: "fb-name" }, titled(job)), h("p", { class: "fb-dim" }, job.error ? `${job.state}: ${job.error.message}` : job.state),
      h("div", { class: "fb-actions" }, ...actions(job, () => row.remove())));
    return row;
  }

  #choose(job, mark) {
    this.#chosen = this.#chosen.filter((each) => each.id !== job.id);
    if (mark.checked) this.#chosen.push(job);
    this.compare.disabled = this.#chosen.length !== 2;
    this.compare.textContent = this.#chosen.length === 1 ? "Choose one more" : "Compare";
  }

  async #compare() {
    const urls = await Promise.all(this.#chosen.map((job) => link(job.id, "film")));
    const films = this.#chosen.map((job, place) => player(job, urls[place], { controls: false, loop: place === 0 }));
    const sides = this.#chosen.map((job, place) => h("figure", {}, crisp(films[place]), h("figcaption", {}, titled(job), h("br"), facts(job))));
    const close = shown("Side by side", [h("div", { class: "fb-sides" }, ...sides), together(films)], this.compare);
    return close;
  }
}

/** Plays a film. A pause before the first frame is shown is no error. */
const play = (film) => film.play().catch((error) => { if (error.name !== "AbortError") throw error; });

/** One set of controls for films that play in step; the first film leads. */
function together(films) {
  const [leader, ...others] = films;
  if (!leader.play || others.some((film) => !film.play)) return h("p", { class: "fb-dim" }, "Pictures have no playback controls.");
  const where = h("input", { type: "range", min: 0, max: 1000, value: 0, "aria-label": "position in the films",
    oninput: () => { leader.currentTime = (where.value / 1000) * leader.duration; follow(true); } });
  const follow = (now) => {
    for (const film of others) {
      const at = Math.min(leader.currentTime, film.duration || 0);
      if (now || Math.abs(film.currentTime - at) > 0.06) film.currentTime = at;
      if (!leader.paused && film.paused && film.currentTime < film.duration - 0.01) play(film); // it had ended earlier
    }
    where.value = (leader.currentTime / leader.duration) * 1000 || 0;
  };
  leader.addEventListener("timeupdate", () => follow(false));
  leader.addEventListener("play", () => others.forEach(play));
  leader.addEventListener("pause", () => others.forEach((film) => film.pause()));
  leader.addEventListener("seeking", () => follow(true));
  const press = h("button", { type: "button", class: "fb-button", onclick: () => (leader.paused ? play(leader) : leader.pause()) }, "Play or pause");
  return h("div", { class: "fb-actions" }, press, where);
}

/** A dialog with a film and all its actions. */
async function opened(job, from) {
  const url = await link(job.id, "film");
  const close = () => dialog.close();
  const dialog = shown(titled(job, 200), [crisp(player(job, url)), h("p", { class: "fb-dim" }, facts(job)), noted(job), h("div", { class: "fb-actions" }, ...actions(job, () => close()))], from);
}

/** A modal dialog: it closes with Escape, and returns the focus to the element that opened it. */
function shown(title, inside, from) {
  const dialog = h("dialog", { class: "fb-dialog", "aria-label": title },
    h("header", {}, h("h2", {}, title), h("button", { type: "button", class: "fb-button fb-quiet", onclick: () => dialog.close() }, "Close")),
    ...inside);
  dialog.addEventListener("close", () => { dialog.remove(); from.isConnected && from.focus(); });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

customElements.define("flickbook-gallery", Gallery);
