// The service's own API, asked as any other client asks it. The browser sends the session's cookie by itself.

export const ROOT = "/api/v1";

/** What the service said no to: its one line, and the field that it is about. */
export class Refused extends Error {
  constructor(message, status, field) {
    super(message);
    this.status = status;
    this.field = field;
  }
}

/** The answer to a request; throws Refused, or TypeError where the service is out of reach. */
export async function ask(path, { method, json, form, headers = {}, signal } = {}) {
  const how = { method: method ?? (json || form ? "POST" : "GET"), headers: { ...headers }, signal };
  if (json !== undefined) {
    how.body = JSON.stringify(json);
    how.headers["content-type"] = "application/json";
  } else if (form) {
    how.body = form;
  }
  const answer = await fetch(path.startsWith("/") ? path : `${ROOT}/${path}`, how).catch((error) => {
    throw new TypeError(`the service is out of reach; see that it runs, and try again (${error.message})`);
  });
  if (answer.status === 401) throw new Refused("you are logged out; log in again in another tab, and go on here", 401);
  if (!answer.ok) {
    const { error } = await answer.json().catch(() => ({}));
    // The page has a button for what other clients send a request for.
    if (error?.code === "model_not_pulled") error.message = error.message.replace(/POST \S+ downloads it$/, "download it under Models");
    throw new Refused(error?.message ?? `the service answers ${answer.status}`, answer.status, error?.field);
  }
  return answer.status === 204 ? null : answer.json();
}

const signed = new Map();

/** A link to one file of a job that needs no key for an hour; made once, and anew before it is over. */
export async function link(id, file, download = false) {
  const name = `${id}/${file}/${download}`;
  const known = signed.get(name);
  if (known && known.until > Date.now()) return known.url;
  // A key that may only read makes no links: the session itself opens the file.
  const own = `${ROOT}/jobs/${id}/${file}${download ? "?download=true" : ""}`;
  const { url } = await ask(`jobs/${id}/links`, { json: { file, seconds: 3600, download } }).catch((error) => {
    if (error.status === 403) return { url: own };
    throw error;
  });
  signed.set(name, { url, until: Date.now() + 3000_000 });
  return url;
}

/** Have the browser save one file of a job. */
export async function save(id, file) {
  const anchor = document.createElement("a");
  anchor.href = await link(id, file, true);
  anchor.download = "";
  anchor.click();
}
