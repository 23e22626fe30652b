// One job at a time, named by the address of the page: started, followed through lost connections, canceled.

import * as api from "./api.js";
import { notice } from "./dom.js";
import * as keep from "./keep.js";

export class Jobs extends EventTarget {
  current = null; // the latest snapshot of the job that is shown
  problem = null; // why a job could not be started or read
  starting = false;
  #control = null;

  constructor(store, preview) {
    super();
    Object.assign(this, { store, preview });
    addEventListener("popstate", () => this.openAddress());
  }

  static get named() {
    return new URL(location).searchParams.get("job");
  }

  /** Queue what is drawn; `seed` stands in for the drawing's own. */
  async start(doc, seed = undefined) {
    this.#set({ starting: true, problem: null });
    try {
      const body = await this.preview.request(doc);
      if (seed !== undefined) body.seed = seed;
      const job = await api.generate(body);
      keep.saveForJob(job.id, doc).catch(() => {});
      this.show(job);
    } catch (problem) {
      this.#set({ problem });
    } finally {
      this.#set({ starting: false });
    }
  }

  /** Show a job and go on following it. */
  show(job, { push = true } = {}) {
    const address = new URL(location);
    address.searchParams.set("job", job.id);
    if (push && Jobs.named !== job.id) history.pushState(null, "", address);
    this.#control?.abort();
    this.#set({ current: job, problem: null });
    if (!api.ended(job)) this.#follow(job.id);
  }

  close() {
    this.#control?.abort();
    const address = new URL(location);
    address.searchParams.delete("job");
    history.pushState(null, "", address);
    notice("connection", null);
    this.#set({ current: null, problem: null });
  }

  /** The job that the page's address names, if it names one. */
  async openAddress() {
    const id = Jobs.named;
    if (id === (this.current?.id ?? null)) return;
    this.#control?.abort();
    if (!id) return this.#set({ current: null, problem: null });
    try {
      this.show(await api.job(id), { push: false });
    } catch (problem) {
      const gone = problem.status === 404;
      this.#set({ current: null, problem: gone ? Object.assign(problem, { message: "This video is gone: it has expired, or belongs to another key. The drawing is still here." }) : problem });
      if (problem.status === 0) this.#again(id);
    }
  }

  async cancel() {
    try {
      const job = await api.cancel(this.current.id);
      if (this.current?.id === job.id && !api.ended(this.current)) this.#set({ current: job });
    } catch (problem) {
      notice("cancel", problem.message);
    }
  }

  /** Fresh links of the job that is shown. */
  async refresh() {
    if (this.current) this.#set({ current: await api.job(this.current.id) });
  }

  async #again(id) {
    await api.pause(3000);
    if (Jobs.named === id && !this.current) this.openAddress();
  }

  async #follow(id) {
    const control = (this.#control = new AbortController());
    const lost = (error) => notice("connection", error && "The connection is lost. The video is still being made; looking for the server …");
    try {
      for await (const job of api.follow(id, control.signal, lost)) this.#set({ current: job });
    } catch (problem) {
      if (!control.signal.aborted) this.#set({ problem });
    } finally {
      if (!control.signal.aborted) notice("connection", null);
    }
  }

  #set(fields) {
    Object.assign(this, fields);
    this.dispatchEvent(new Event("change"));
  }
}

const STAGES = {
  queued: "Waiting",
  loading: "Loading the model",
  conditioning: "Reading the plan",
  denoising: "Painting",
  decoding: "Developing the frames",
  encoding: "Making the video",
  uploading: "Saving",
  done: "Done",
};

/** What a job is doing, in words. */
export function told({ status, progress, queue_position: position }) {
  if (status === "queued") return position ? `Waiting, ${position === 1 ? "next in line" : `${ordinal(position)} in line`}` : "Waiting";
  if (status === "running") return progress.stage === "denoising" ? painting(progress) : STAGES[progress.stage];
  return { succeeded: "Done", failed: "Failed", canceled: "Canceled", expired: "Not started in time" }[status];
}

const painting = ({ step, steps }) => `Painting, ${Math.min(step + 1, steps)} of ${steps}`;

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 1) return "a moment";
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

const ordinal = (n) => `${n}${["th", "st", "nd", "rd"][n % 10 < 4 && Math.floor((n % 100) / 10) !== 1 ? n % 10 : 0]}`;
