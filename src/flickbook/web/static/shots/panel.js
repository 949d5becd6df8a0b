// The panel of the selected shot: its fields, its pictures, and its drafts.

import { button, h } from "../draw.js";
import { note } from "../form.js";
import { choice, field, others, show } from "./fields.js";
import { MOST, shots } from "./list.js";

const CAMERA = [["", "none"], ["pan-left", "pan left"], ["pan-right", "pan right"], ["tilt-up", "tilt up"], ["tilt-down", "tilt down"], ["zoom-in", "zoom in"], ["zoom-out", "zoom out"]];
const LABELS = { image: "First picture", last_image: "Last picture" };

class Shot extends HTMLElement {
  #id = null;
  #model = "";
  #urls = new Map(); // files and the addresses of their pictures

  connectedCallback() {
    if (this.#id !== null) return;
    shots.ready(this.getAttribute("model")).then(() => {
      shots.addEventListener("change", () => this.draw());
      this.draw();
    }, () => {});
  }

  draw() {
    const shot = shots.current;
    if (shot.id !== this.#id || shots.model.name !== this.#model) this.#build(shot);
    this.#update(shot);
  }

  #build(shot) {
    this.#id = shot.id;
    this.#model = shots.model.name;
    const edit = (name) => (event) => shots.edit(shots.current, name, event.target.value);
    const { inputs, accepts } = shots.model;
    this.prompt = h("textarea", { rows: 3, maxlength: "2000", placeholder: "What this shot shows", oninput: (event) => { edit("prompt")(event); this.#note(); } });
    this.seconds = h("input", { type: "number", step: "any", min: 0, inputMode: "decimal", onchange: () => this.#length(), onfocus: () => this.seconds.select() });
    this.hint = h("span", { class: "fb-dim" });
    this.begins = h("select", { onchange: edit("begins") });
    this.camera = choice(CAMERA, { onchange: edit("camera") });
    this.text = h("input", { type: "text", maxlength: "200", placeholder: "none", oninput: edit("text") });
    this.seed = h("input", { type: "text", maxlength: "20", inputMode: "numeric", placeholder: "from the list", oninput: edit("seed") });
    this.refusal = h("flickbook-refusal", { for: "shot" });
    this.heading = h("h3", {});
    const act = (text, label, how) => h("button", { type: "button", onclick: how, class: "fb-button fb-quiet fb-small", "aria-label": label, "data-key": label, title: label }, text);
    this.left = act("←", "move left", () => this.#move(-1));
    this.right = act("→", "move right", () => this.#move(1));
    this.copy = act("Duplicate", "duplicate the shot", () => shots.duplicate(shots.current));
    this.pictures = h("div", { class: "fb-pictures" });
    this.rest = h("p", { class: "fb-dim" });
    this.drafts ??= h("flickbook-takes");
    const first = inputs.includes("image") ? [this.#picture("image")] : [];
    const last = accepts.includes("last_image") ? [this.#picture("last_image")] : [];
    this.pictures.append(...first, ...last);
    this.replaceChildren(h("section", { class: "fb-panel", "aria-label": "the selected shot" },
      h("header", {}, this.heading, this.left, this.right, this.copy, act("Delete", "delete the shot", () => shots.remove(shots.current))),
      this.refusal,
      field("Prompt", this.prompt), h("flickbook-notes", { for: "shot" }),
      h("div", { class: "fb-fields" },
        field("Seconds", this.seconds, { hint: this.hint }), field("Begins", this.begins), field("Camera", this.camera),
        field("Seed", this.seed), field("Caption", this.text, { double: true })),
      this.pictures, this.rest, this.drafts));
    this.#note();
  }

  /** A moved shot stays selected, and the button keeps the focus. */
  #move(by) {
    const shot = shots.current;
    shots.move(shot, shots.place(shot.id) + by);
  }

  #note() {
    note("shot", shots.current.prompt, shots.model.name);
  }

  #length() {
    const shot = shots.current, wanted = Number(this.seconds.value);
    if (wanted > 0) shots.edit(shot, "seconds", shots.seconds(shot, shots.frames(shot, wanted)), true);
    this.seconds.value = shot.seconds;
  }

  #update(shot) {
    const place = shots.place(shot.id), { least, most } = shots.limits(), rate = shots.rate(shot), frames = shots.frames(shot);
    const seconds = (count) => Number((count / rate).toFixed(2));
    this.heading.textContent = `Shot ${place + 1} of ${shots.shots.length}`;
    for (const [name, off] of [["left", place === 0], ["right", place === shots.shots.length - 1], ["copy", shots.shots.length >= MOST]]) this[name].disabled = off;
    show(this.prompt, shot.prompt);
    show(this.seconds, seconds(frames));
    this.hint.textContent = `${frames} frames; ${seconds(least)} to ${seconds(most)} s`;
    const from = shots.model.inputs.includes("image");
    this.begins.replaceChildren(...[
      ["", shot.image ? "with the first picture" : "on its own"],
      ["previous", place ? `where shot ${place} ends` : "where a shot before it ends", !from || !place || Boolean(shot.image)],
    ].map(([value, text, disabled]) => h("option", { value, disabled: Boolean(disabled) && value !== shot.begins }, text)));
    this.begins.value = shot.begins;
    for (const name of ["camera", "text", "seed"]) show(this[name], shot[name]);
    this.rest.textContent = Object.keys(shot.more).length ? `Also in this list: ${others(shot.more)}` : "";
    for (const each of this.pictures.children) this.#shown(shot, each);
    const refused = shots.refused?.id === shot.id ? shots.refused : null;
    this.refusal.tell(refused?.text ?? "");
    for (const name of ["prompt", "seconds", "begins", "camera", "text", "seed"]) {
      this[name].setAttribute("aria-invalid", String(Boolean(refused) && (refused.field === name || (name === "seconds" && refused.field === "num_frames"))));
    }
    this.drafts.draw();
    this.#release();
  }

  /** Frees the addresses of pictures that no shot has any more. */
  #release() {
    const here = new Set(shots.shots.flatMap((shot) => Object.keys(LABELS).map((name) => shots.file(shot, name))));
    for (const [file, url] of this.#urls) {
      if (here.has(file)) continue;
      URL.revokeObjectURL(url);
      this.#urls.delete(file);
    }
  }

  /** A place for a picture of a shot: choose it or drop it there. */
  #picture(name) {
    const take = (file) => shots.picture(shots.current, name, file);
    const input = h("input", { type: "file", accept: "image/*", "aria-label": LABELS[name].toLowerCase(), onchange: () => { if (input.files[0]) take(input.files[0]); input.value = ""; } });
    const place = h("div", { class: "fb-picture", "data-name": name, "data-drop": "" },
      h("label", {}, h("span", { class: "fb-thumb", "aria-hidden": "true" }), h("span", { class: "fb-name" }), input),
      button("Remove", () => take(null), { class: "fb-button fb-quiet fb-small", "aria-label": `remove the ${LABELS[name].toLowerCase()}` }));
    place.take = take;
    return place;
  }

  #shown(shot, place) {
    const { name } = place.dataset, picture = shot[name], file = shots.file(shot, name), [label, remove] = place.children;
    place.hidden = name === "image" && Boolean(shot.begins);
    remove.hidden = !picture;
    label.querySelector(".fb-name").textContent = picture ? (file ? picture.name : `${picture.name}: choose it again`) : LABELS[name];
    if (file && !this.#urls.has(file)) this.#urls.set(file, URL.createObjectURL(file));
    label.querySelector(".fb-thumb").style.backgroundImage = file ? `url(${this.#urls.get(file)})` : "";
    place.classList.toggle("fb-chosen", Boolean(picture));
  }
}

customElements.define("flickbook-shot", Shot);
