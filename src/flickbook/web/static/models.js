// The models: their strengths, whether their files are here, and whether they fit this machine.

import { ask, worded } from "./api.js";
import { button, h, spoken } from "./draw.js";

const GIB = 2 ** 30;
const QUICK = 600; // seconds: a film that takes longer is not shown in green
const size = (bytes) => (bytes >= GIB / 10 ? `${(bytes / GIB).toFixed(1)} GiB` : `${Math.round(bytes / 2 ** 20)} MiB`);

class Models extends HTMLElement {
  async connectedCallback() {
    if (this.firstChild) return;
    this.append(h("p", { class: "fb-dim", role: "status" }, "Checking this machine…"));
    let machine, data;
    try {
      [machine, { data }] = await Promise.all([ask("machine"), ask("models")]);
    } catch (error) {
      const again = () => { this.replaceChildren(); this.connectedCallback(); };
      return this.replaceChildren(h("p", { class: "wrong", role: "alert" }, worded(error)), button("Try again", again));
    }
    const memory = machine.gpu_total ? `${size(machine.gpu_free)} of ${size(machine.gpu_total)} free` : `${size(machine.memory_free)} of ${size(machine.memory_total)} free`;
    this.replaceChildren(
      h("p", {}, `${machine.device_name}: ${memory}, ${size(machine.disk_free)} free on the disk.`),
      h("ul", { class: "fb-models" }, ...data.map((model) => this.#row(model))));
  }

  #row(model) {
    const fits = h("p", { class: "fb-dim" }, "…");
    const pull = h("div", { class: "fb-actions" });
    const row = h("li", { "data-model": model.name },
      h("h3", {}, model.title), h("p", {}, model.summary),
      h("p", { class: "fb-dim" }, `${model.licence} · commercial use: ${model.commercial} · ${model.good_at}`),
      fits, pull);
    this.#judge(model, fits);
    if (model.here) pull.append(h("span", { class: "fb-here" }, "installed"));
    else if (model.repo) this.#offer(model, pull);
    return row;
  }

  async #judge(model, place) {
    if (!model.inputs.includes("text")) {
      place.textContent = `starts from: ${model.inputs.join(" or ")}`;
      return;
    }
    if (model.needs.length) {
      place.textContent = `needs: ${model.needs.join(" and ").replaceAll("_", " ")}`;
      return;
    }
    try {
      const found = await ask("estimate", { json: { prompt: "a film", model: model.name } });
      const time = found.seconds ? `about ${spoken(found.seconds)}` : "time unknown";
      place.textContent = found.fits ? `Fits: ${size(found.peak)} of ${size(found.room)} free, ${time}.` : `Does not fit: ${found.remedy.replaceAll("--num-frames", "frames").replaceAll(/--([a-z])/g, "$1")}.`;
      place.classList.toggle("fb-fits", found.fits && found.seconds !== null && found.seconds < QUICK);
    } catch (error) {
      place.textContent = worded(error);
    }
  }

  #offer(model, place) {
    const text = model.download_gb ? `Download ${model.download_gb} GB` : "Download";
    place.replaceChildren(button(text, async () => { this.#follow(model, place, await ask(`models/${model.name}/pull`, { method: "POST" })); },
      { "aria-label": `${text}: ${model.title}` }));
    ask(`models/${model.name}/pull`).then((now) => now.state === "pulling" && this.#follow(model, place, now), () => {});
  }

  #follow(model, place, now) {
    if (now.state === "done") return place.replaceChildren(h("span", { class: "fb-here" }, "installed"));
    if (now.state === "absent") return this.#offer(model, place); // the service was restarted
    if (now.state === "failed") {
      this.#offer(model, place);
      place.append(h("span", { class: "wrong", role: "alert" }, now.error));
      return;
    }
    const text = now.total ? `${size(now.bytes)} of ${size(now.total)}` : size(now.bytes);
    place.replaceChildren(h("progress", { max: now.total || 1, value: now.total ? now.bytes : 0, "aria-label": `downloading ${model.title}` }), h("span", {}, text));
    setTimeout(async () => this.#follow(model, place, await ask(`models/${model.name}/pull`).catch(() => now)), 1000);
  }
}

customElements.define("flickbook-models", Models);
