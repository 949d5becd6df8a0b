// The inputs that guide a film besides its beginning: last frame, pictures, videos and mask. Only those that the selected
// model accepts are shown, and only those are sent.

import { ask } from "./api.js";
import { h } from "./draw.js";

const MOST = 8; // files of one kind, as the service accepts
const VIDEOS = "video/*,image/gif";
const KINDS = {
  last_image: { title: "Last frame", accept: "image/*", hint: "A picture that the film ends with." },
  conditions: { title: "Pictures at frames", accept: "image/*", part: "condition", hint: "Pictures that the film shows on its way." },
  reference_images: { title: "Reference pictures", accept: "image/*", part: "reference", hint: "People or things that the film shows, best on a plain background." },
  control_video: { title: "Control video", accept: VIDEOS, hint: "A film that steers every frame." },
  face_video: { title: "Face video", accept: VIDEOS, hint: "The face of the person whose poses the control video shows." },
  mask: { title: "Mask", accept: "image/*,video/*", hint: "White where the film that this one starts from is made anew, black where it stays." },
};
const CONTROLS = [["", "drawn already: edges, depth or poses"], ["edges", "an ordinary film: follow its edges"]];

let models = null;

/** Returns the description of a model. */
export async function described(name) {
  const found = await (models ??= ask("models")).catch((error) => {
    models = null; // asked for again at the next call
    throw error;
  });
  return found.data.find((each) => each.name === name);
}

/** The files of one kind, with a picture and a button for each. */
class Guide {
  files = []; // of {file, url, place: the field of its frame}

  constructor(name) {
    this.kind = KINDS[name];
    this.several = Boolean(this.kind.part);
    this.input = h("input", { type: "file", accept: this.kind.accept, multiple: this.several, onchange: () => { this.add([...this.input.files]); this.input.value = ""; } });
    this.title = h("span", {});
    this.control = h("select", { "aria-label": "kind of the control video" }, CONTROLS.map(([value, text]) => h("option", { value }, text)));
    this.shown = h("div", { class: "fb-given" });
    this.element = h("div", { class: "fb-guide", "data-name": name, "data-drop": "" },
      h("label", { class: "fb-file" }, this.title, h("span", { class: "fb-dim" }, this.kind.hint), this.input), this.shown);
    this.element.take = (file) => this.add([file]);
  }

  add(files) {
    if (!this.several) this.clear();
    this.files.push(...files.slice(0, MOST - this.files.length).map((file) => ({ file, url: URL.createObjectURL(file) })));
    this.draw();
  }

  clear() {
    for (const { url } of this.files.splice(0)) URL.revokeObjectURL(url);
  }

  draw() {
    this.shown.replaceChildren(...this.files.map((each) => this.#row(each)));
    if (this.kind === KINDS.control_video && this.files.length) this.shown.append(h("label", { class: "fb-kind" }, "It is ", this.control));
  }

  #row(each) {
    const { file, url } = each;
    const moving = file.type.startsWith("video/");
    const remove = () => {
      URL.revokeObjectURL(url);
      this.files.splice(this.files.indexOf(each), 1);
      this.draw();
    };
    if (this.kind === KINDS.conditions) each.place ??= h("input", { type: "number", step: 1, placeholder: "frame", "aria-label": `frame of ${file.name}` });
    return h("div", { class: "fb-input" },
      moving ? h("video", { src: url, muted: true, loop: true, autoplay: true, playsInline: true }) : h("img", { src: url, alt: "" }),
      h("span", {}, file.name), each.place ?? null,
      h("button", { type: "button", class: "fb-button fb-quiet", "aria-label": `remove ${file.name}`, onclick: remove }, "Remove"));
  }
}

class Guides extends HTMLElement {
  #model = null;
  #guides = new Map();

  connectedCallback() {
    if (this.#guides.size) return;
    for (const name of Object.keys(KINDS)) this.#guides.set(name, new Guide(name));
    this.hidden = true;
    this.append(...[...this.#guides.values()].map((each) => each.element));
    this.choose(this.getAttribute("model")).catch(() => {}); // the next choice asks again
  }

  /** Shows the inputs of a model. */
  async choose(name) {
    const found = await described(name);
    this.#model = found ?? null;
    const accepts = found?.accepts ?? [];
    for (const [guide, each] of this.#guides) {
      each.element.hidden = !accepts.includes(guide);
      each.title.textContent = found?.needs.includes(guide) ? `${each.kind.title}, which this model needs` : each.kind.title;
    }
    this.hidden = ![...this.#guides.keys()].some((guide) => accepts.includes(guide));
  }

  /** The parts of a form for the chosen files, [name, file] each, and the fields about them. Throws for what is missing. */
  given() {
    const parts = [], fields = {};
    for (const [name, { kind, files, control }] of this.#guides) {
      if (!this.#model?.accepts.includes(name)) continue;
      if (!files.length && this.#model.needs.includes(name)) throw new Error(`${kind.title}: ${this.#model.title} needs one; choose a file`);
      parts.push(...files.map(({ file }, number) => [kind.part ? `${kind.part}-${number}` : name, file]));
      if (name === "conditions" && files.length) fields.conditions = files.map(placed);
      if (name === "control_video" && files.length && control.value) fields.control = control.value;
    }
    return { parts, fields };
  }
}

function placed({ file, place }) {
  if (!/^-?[0-9]{1,6}$/.test(place.value)) throw new Error(`Pictures at frames: ${file.name} has no frame; write its number, counted from 0, or -1 for the last one`);
  return { frame: Number(place.value) };
}

/** Shows the inputs of the model that was selected in a form. */
export function guided(what, name) {
  const found = document.querySelector(`flickbook-guides[for="${what}"]`);
  found?.choose(name).catch(() => {});
}

/** The inputs of a form that guide its film. */
export function guides(what) {
  return document.querySelector(`flickbook-guides[for="${what}"]`)?.given() ?? { parts: [], fields: {} };
}

customElements.define("flickbook-guides", Guides);
