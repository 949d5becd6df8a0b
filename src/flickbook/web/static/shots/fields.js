// Fields of the tab Shots, which keep the value of the shot list while the user types, and the defaults of all shots.

import { h } from "../draw.js";
import { shots } from "./list.js";

let count = 0;

/** A labelled field; `hint` is an element below it. */
export function field(label, control, { hint = null, double = false } = {}) {
  control.id = `fb-field-${++count}`;
  if (hint) {
    hint.id = `fb-hint-${count}`;
    control.setAttribute("aria-describedby", hint.id);
  }
  return h("div", { class: double ? "fb-field fb-double" : "fb-field" }, h("label", { for: control.id }, label), control, hint);
}

/** A choice of values: pairs of value and text. */
export function choice(pairs, attributes) {
  return h("select", attributes, ...pairs.map(([value, text, disabled]) => h("option", { value, disabled: Boolean(disabled) }, text)));
}

/** Shows a value in a field, unless the user is typing there. */
export function show(control, value) {
  const text = String(value ?? "");
  if (control.value !== text && document.activeElement !== control) control.value = text;
}

/** The sizes of a model: its own, and halves and one and a halves of them if it has a range. */
function sizes({ sizes: own, sides }) {
  const found = own.map(([width, height]) => `${width}x${height}`);
  if (sides) {
    const [low, high] = sides.range;
    for (const pair of own) {
      for (const factor of [0.5, 1.5]) {
        const scaled = pair.map((side) => Math.round((side * factor) / sides.multiple) * sides.multiple);
        if (scaled.every((side) => side >= low && side <= high)) found.push(scaled.join("x"));
      }
    }
  }
  return [...new Set(found)];
}

/** The options of an opened list that have no field, in words. */
export function others(values) {
  return Object.entries(values).map(([name, value]) => `${name} ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ");
}

class Defaults extends HTMLElement {
  #model = "";

  connectedCallback() {
    if (this.firstChild) return;
    const take = (name) => (event) => shots.change(() => { shots.defaults[name] = event.target.value; }, false);
    this.model = choice(shots.models.map((model) => [model.name, model.title]), { onchange: (event) => this.#choose(event.target.value) });
    this.size = h("select", { onchange: take("size") });
    this.steps = h("input", { type: "number", min: 1, inputMode: "numeric", oninput: take("num_inference_steps") });
    this.seed = h("input", { type: "text", maxlength: "20", inputMode: "numeric", placeholder: "random", oninput: take("seed") });
    this.fade = h("input", { type: "number", min: 0, max: 1000, inputMode: "numeric", oninput: () => shots.change(() => { shots.fade = Math.max(0, Math.round(Number(this.fade.value)) || 0); }, false) });
    this.subjects = h("textarea", { rows: 2, placeholder: "hero: a red circle", oninput: () => this.#subjects() });
    this.rest = h("p", { class: "fb-dim" });
    this.append(
      h("div", { class: "fb-fields fb-wide" },
        field("Model", this.model, { double: true }), field("Size", this.size), field("Steps", this.steps),
        field("Seed", this.seed), field("Cross-fade, frames", this.fade)),
      h("details", { class: "fb-subjects" }, h("summary", {}, "Subjects"),
        field("Words for {name} in the prompts, one per line", this.subjects), this.rest));
    shots.addEventListener("change", () => this.draw());
    this.draw();
  }

  #choose(name) {
    shots.change(() => Object.assign(shots.defaults, { model: name, size: "", num_inference_steps: "" }));
  }

  #subjects() {
    const pairs = this.subjects.value.split("\n").map((line) => line.match(/^\s*([A-Za-z0-9_-]+)\s*:\s*(.+?)\s*$/)).filter(Boolean);
    shots.change(() => { shots.subjects = Object.fromEntries(pairs.map(([, name, words]) => [name, words])); }, false);
  }

  draw() {
    const { model, defaults } = shots;
    const state = `${model.name} ${defaults.size}`;
    if (state !== this.#model) {
      this.#model = state;
      const known = sizes(model), usual = model.sizes[0].join("×");
      const options = [["", `${usual} (default)`], ...known.slice(1).map((size) => [size, size.replace("x", "×")])];
      if (defaults.size && !known.slice(1).includes(defaults.size)) options.push([defaults.size, defaults.size.replace("x", "×")]);
      this.size.replaceChildren(...options.map(([value, text]) => h("option", { value }, text)));
      this.steps.placeholder = String(model.num_inference_steps.default);
      this.steps.max = model.num_inference_steps.range[1];
    }
    show(this.model, model.name);
    show(this.size, defaults.size);
    show(this.steps, defaults.num_inference_steps);
    show(this.seed, defaults.seed);
    show(this.fade, shots.fade);
    show(this.subjects, Object.entries(shots.subjects).map(([name, words]) => `${name}: ${words}`).join("\n"));
    this.rest.textContent = Object.keys(shots.more).length ? `Also in this list: ${others(shots.more)}` : "";
  }
}

customElements.define("flickbook-defaults", Defaults);
