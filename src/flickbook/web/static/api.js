// Calls of the service's own API, like those of any other client. The browser sends the session cookie itself.

export const ROOT = "/api/v1";

/** The labels of fields that are no components of a form. */
const LABELS = {
  id: "Job", width: "Width", height: "Height", files: "Clips", image: "the picture to start from", video: "the film to start from",
  last_image: "Last frame", conditions: "Pictures at frames", reference_images: "Reference pictures", control_video: "Control video",
  control: "Kind of the control video", face_video: "Face video", mask: "Mask", latent_upsample: "Latent upsampling",
};

/** An error response of the service; its message names the field, `num_frames=999: must be ...`. */
export class Refused extends Error {
  constructor(message, status, field) {
    super(message);
    this.status = status;
    this.field = field;
  }

  /** The message with the field's label: `Frames 999: must be ...`, `Prompt: is empty`. */
  text(labels = {}) {
    const known = { ...LABELS, ...labels };
    // A remedy may name an option of the command.
    const message = this.message.replaceAll(/--([a-z]+(?:-[a-z]+)*)(?: PATH)?/g, (option, name) => known[name.replaceAll("-", "_")] ?? known[`polish.${name}`] ?? option);
    const label = known[this.field] ?? known[`polish.${this.field}`];
    if (!label || !message.startsWith(this.field)) return message;
    return label + message.slice(this.field.length).replace(/^=:/, ":").replace(/^=/, " ");
  }
}

/** The text of any error; `labels` are those of the form's fields. */
export function worded(error, labels) {
  return error instanceof Refused ? error.text(labels) : error.message;
}

/** Sends a request and returns the response; throws Refused, or TypeError if the service is unreachable. */
export async function ask(path, { method, json, form, headers = {}, signal } = {}) {
  const how = { method: method ?? (json || form ? "POST" : "GET"), headers: { ...headers }, signal };
  if (json !== undefined) {
    how.body = JSON.stringify(json);
    how.headers["content-type"] = "application/json";
  } else if (form) {
    how.body = form;
  }
  const answer = await fetch(path.startsWith("/") ? path : `${ROOT}/${path}`, how).catch((error) => {
    throw new TypeError(`the service is unreachable; check that it is running, and try again (${error.message})`);
  });
  if (answer.status === 401) throw new Refused("you are logged out; log in again in another tab, and continue here", 401);
  if (!answer.ok) {
    const { error } = await answer.json().catch(() => ({}));
    // The page has a button where other clients must send a request.
    if (error?.code === "model_not_pulled") error.message = error.message.replace(/POST \S+ downloads it$/, "download it under Models");
    throw new Refused(error?.message ?? `the service returned ${answer.status}`, answer.status, error?.field);
  }
  return answer.status === 204 ? null : answer.json();
}

const signed = new Map();

/** Returns a link to a file of a job that needs no key for an hour; cached, and renewed before it expires. */
export async function link(id, file, download = false) {
  const name = `${id}/${file}/${download}`;
  const known = signed.get(name);
  if (known && known.until > Date.now()) return known.url;
  // A key with the scope read cannot create links: the session itself opens the file.
  const own = `${ROOT}/jobs/${id}/${file}${download ? "?download=true" : ""}`;
  const { url } = await ask(`jobs/${id}/links`, { json: { file, seconds: 3600, download } }).catch((error) => {
    if (error.status === 403) return { url: own };
    throw error;
  });
  signed.set(name, { url, until: Date.now() + 3000_000 });
  return url;
}

/** Makes the browser save a file of a job. */
export async function save(id, file) {
  const anchor = document.createElement("a");
  anchor.href = await link(id, file, true);
  anchor.download = "";
  anchor.click();
}
