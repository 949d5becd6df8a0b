// Helpers that build the page's elements from names, attributes and children; text is never parsed as HTML.

import { worded } from "./api.js";

/** Creates an element: `h("button", {class: "x", onclick: f}, "text", child)`. Skips null and false. */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && !key.startsWith("aria") && typeof value !== "string") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A button that is disabled while its action runs; an error is shown at the foot of the page. */
export function button(text, act, attributes = {}) {
  const press = async (event) => {
    const own = event.currentTarget;
    own.disabled = true;
    try {
      await act(event);
    } catch (error) {
      say(worded(error), true);
    } finally {
      own.disabled = false;
    }
  };
  return h("button", { type: "button", class: "fb-button", ...attributes, onclick: press }, text);
}

let voice;

/** Shows a line at the foot of the page for a while; screen readers read it out. */
export function say(text, wrong = false) {
  if (!voice) {
    voice = h("div", { class: "fb-voice", role: "status", "aria-live": "polite" });
  }
  // A modal dialog makes the rest of the page silent to screen readers.
  const over = [...document.querySelectorAll("dialog[open]")].pop() ?? document.body;
  if (voice.parentNode !== over) over.append(voice);
  voice.textContent = text;
  voice.classList.toggle("wrong", wrong);
  voice.classList.add("shown");
  clearTimeout(voice.timer);
  voice.timer = setTimeout(() => voice.classList.remove("shown"), wrong ? 8000 : 4000);
}

const sizes = new ResizeObserver((entries) => entries.forEach((entry) => fit(entry.target)));

function fit(screen) {
  const film = screen.querySelector("img, video");
  const width = film?.videoWidth ?? film?.naturalWidth, height = film?.videoHeight ?? film?.naturalHeight;
  if (!width || !height || !screen.clientWidth) return;
  const room = Math.min(screen.clientWidth / width, screen.clientHeight / height);
  const times = Math.floor(room * devicePixelRatio) / devicePixelRatio;
  film.classList.toggle("fb-crisp", times > 0);
  film.style.width = times ? `${width * times}px` : "";
  film.style.height = times ? `${height * times}px` : "";
}

/** Puts a film or a picture on a screen, as large as fits at a whole multiple of its size in device pixels, so that its
 *  pixels stay sharp; a film larger than the screen is scaled down. */
export function crisp(film, screen = h("div", { class: "fb-screen" })) {
  film.addEventListener(film.play ? "loadedmetadata" : "load", () => fit(screen));
  screen.replaceChildren(film);
  sizes.observe(screen);
  fit(screen);
  return screen;
}

/** Formats seconds for people. */
export function spoken(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/** A job's prompt, shortened if it is long; a training's begins with the name of its LoRA, if it has one. */
export function titled(job, most = 90) {
  const others = ["sequence", "shots"].includes(job.kind) ? job.plan.prompt_at.map(([, prompt]) => prompt) : [];
  const training = job.lora ? `LoRA ${job.lora}: ` : job.kind === "tune" ? "Training: " : "";
  const text = training + [job.prompt || "no prompt", ...others].join(" → ");
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

/** Whether a job makes a still image. */
export function still(job) {
  return job.plan.num_frames === 1;
}

/** Whether a job's file is shown in an <img>: images, and GIFs, which animate by themselves. */
export function pictured(job) {
  return (job.result?.media_type ?? "").startsWith("image/");
}
