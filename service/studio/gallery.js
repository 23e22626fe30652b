// Videos made before, and the same plan with several seeds side by side.

import * as api from "./api.js";
import { $, el, fill, iconButton } from "./dom.js";
import { told } from "./jobs.js";
import { openSheet } from "./sheet.js";

const FOUR = 4;
const POLL_MS = 1000;

export class Gallery {
  constructor(jobs) {
    this.jobs = jobs;
  }

  async open() {
    const cards = el("ul", { className: "cards" });
    const more = el("div", { className: "row" });
    const content = openSheet("Your videos", el("p", { className: "small" }, "Loading …"));
    const load = async (after) => {
      const page = await api.jobs(after);
      cards.append(...page.jobs.map((job) => this.#card(job, true)));
      fill(more, page.next && el("button", { onclick: () => load(page.next) }, "More"));
    };
    try {
      await load();
      fill(content, cards.children.length ? cards : el("p", {}, "None yet. What you generate is kept here until it expires."), more);
    } catch (problem) {
      fill(content, el("p", { className: "error" }, problem.message));
    }
  }

  /** Four seeds of one request, as a contact sheet that fills up. */
  async variations(request) {
    const { seed: _, ...body } = request;
    const seeds = Array.from({ length: FOUR }, () => Math.floor(Math.random() * 2 ** 31));
    const progress = el("progress", { max: 1, value: 0, "aria-label": "Progress of all" });
    const text = el("p", { className: "small", role: "status" }, "Sending …");
    const cards = el("ul", { className: "cards" });
    const stop = el("button", {}, "Cancel all");
    const content = openSheet("Four variations", el("div", { className: "row" }, el("div", { className: "grow stack" }, progress, text), stop), cards);
    try {
      let batch = await api.batch({ request: body, seeds });
      stop.onclick = () => api.cancelBatch(batch.id);
      const made = new Map();
      while (content.isConnected && $("sheet").open) {
        progress.value = batch.fraction;
        text.textContent = batch.status === "ended" ? "Choose one." : `${batch.counts.succeeded} of ${batch.jobs.length} are done.`;
        for (const job of batch.jobs) {
          const [state, card] = made.get(job.id) ?? [];
          if (state === job.status && api.ended(job)) continue;
          const next = this.#card(job);
          if (card) card.replaceWith(next);
          else cards.append(next);
          made.set(job.id, [job.status, next]);
        }
        stop.hidden = batch.status === "ended";
        if (batch.status === "ended") return;
        await api.pause(POLL_MS);
        batch = await api.batchState(batch.id);
      }
    } catch (problem) {
      text.replaceWith(el("p", { className: "error" }, problem.message));
    }
  }

  #card(job, removable = false) {
    const when = new Date(job.created_at).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
    const text = job.result ? `Seed ${job.result.seed}` : told(job);
    const open = el(
      "button",
      { type: "button", className: "open", onclick: () => ($("sheet").close(), this.jobs.show(job)) },
      el("span", { className: "face" }, face(job)),
      el("span", { className: "text" }, el("b", {}, text), el("small", {}, when)),
    );
    const card = el("li", { className: "card" }, open);
    if (job.result) this.#moveOnHover(card, open, job);
    if (removable && api.ended(job)) {
      card.append(iconButton("trash", `Forget the video of ${when}`, async () => {
        await api.forget(job.id).catch((problem) => problem.status === 404 || Promise.reject(problem));
        card.remove();
        if (this.jobs.current?.id === job.id) this.jobs.close();
      }, { class: "tiny" }));
    }
    return card;
  }

  #moveOnHover(card, open, { result }) {
    const play = async () => {
      const frame = open.querySelector(".face");
      if (frame.querySelector("video")) return;
      const video = el("video", { muted: true, loop: true, autoplay: true, playsInline: true, src: await api.source(result.video_url) });
      video.addEventListener("playing", () => frame.replaceChildren(video), { once: true });
    };
    card.addEventListener("pointerenter", play, { once: true });
    open.addEventListener("focus", play, { once: true });
  }
}

function face(job) {
  if (!job.result) return api.ended(job) ? told(job) : el("progress", { max: 1, value: job.progress.fraction, "aria-label": told(job) });
  const image = el("img", { alt: "", loading: "lazy" });
  api.source(job.result.poster_url).then((url) => (image.src = url)).catch(() => {});
  return image;
}
