// Elements of the page, made of their names, attributes and children: no text is ever read as HTML.

/** An element: `h("button", {class: "x", onclick: f}, "text", child)`. What is null or false is left out. */
export function h(name, told = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(told)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && !key.startsWith("aria") && typeof value !== "string") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A button that says what it does; while it does so it cannot be pressed, and what goes wrong is told beside it. */
export function button(text, act, told = {}) {
  const press = async (event) => {
    const own = event.currentTarget;
    own.disabled = true;
    try {
      await act(event);
    } catch (error) {
      say(error.message, true);
    } finally {
      own.disabled = false;
    }
  };
  return h("button", { type: "button", class: "fb-button", ...told, onclick: press }, text);
}

let voice;

/** Say a line at the foot of the page for a while; a screen reader reads it out. */
export function say(text, wrong = false) {
  if (!voice) {
    voice = h("div", { class: "fb-voice", role: "status", "aria-live": "polite" });
  }
  // What stands over the page makes all else silent.
  const over = [...document.querySelectorAll("dialog[open]")].pop() ?? document.body;
  if (voice.parentNode !== over) over.append(voice);
  voice.textContent = text;
  voice.classList.toggle("wrong", wrong);
  voice.classList.add("shown");
  clearTimeout(voice.timer);
  voice.timer = setTimeout(() => voice.classList.remove("shown"), wrong ? 8000 : 4000);
}

/** Seconds as people say them. */
export function spoken(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/** A job's prompt, cut where it is long. */
export function titled(job, most = 90) {
  const others = job.kind === "sequence" ? job.plan.prompt_at.map(([, prompt]) => prompt) : [];
  const text = [job.prompt || "without words", ...others].join(" → ");
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

/** Whether what a job makes does not move. */
export function still(job) {
  return job.plan.num_frames === 1;
}

/** Whether its file is shown as a picture: also a GIF, which moves by itself. */
export function pictured(job) {
  return (job.result?.media_type ?? "").startsWith("image/");
}
