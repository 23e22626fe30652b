// The job beside its plan: how far it is, then the video, frame by frame with the plan.

import * as api from "./api.js";
import { $, el, fill, icon, iconButton, notice } from "./dom.js";
import { duration, told } from "./jobs.js";
import { warning } from "./panel.js";

const SEEDS = 2 ** 31;
const STILL_PICTURES = new Set(["image/gif", "image/webp"]);

export class Result {
  #shownId = null;
  #which = "video";
  #take = null; // the link of a take that is not the best one
  #loop = true;
  #working = null;

  constructor(store, jobs, actions) {
    Object.assign(this, { store, jobs, actions }); // actions: {again, variations, extend}
    jobs.addEventListener("change", () => this.show());
    store.addEventListener("change", () => this.#follow());
    store.addEventListener("doc", () => this.video?.pause()); // who draws wants to see the plan's first frame
    $("canvas").addEventListener("pointerdown", () => this.video?.pause());
  }

  show() {
    const { current, problem, starting } = this.jobs;
    const pane = $("result");
    const wanted = Boolean(current || problem?.status === 404);
    if (pane.hidden === wanted) {
      pane.hidden = !wanted;
      document.body.classList.toggle("with-result", wanted);
    }
    if (!wanted || starting) return;
    if (!current) return fill(pane, this.#header("Video"), el("div", { className: "screen" }, el("p", { className: "working error" }, problem.message)));
    if (current.status === "succeeded") return this.#video(current);
    this.#shownId = null;
    if (api.ended(current)) return fill(pane, this.#header(told(current)), this.#ended(current));
    this.#progress(pane, current);
  }

  #header(title) {
    return el("header", {}, el("h2", {}, title), iconButton("close", "Close the video", () => this.jobs.close(), { class: "tiny" }));
  }

  /** Made once per job: a screen reader, and a finger on Cancel, should not meet a new page at every step. */
  #progress(pane, job) {
    if (this.#working?.id !== job.id || !pane.contains(this.#working.bar)) {
      const [name, bar, eta] = [el("p", { className: "stage-name", role: "status" }), el("progress", { max: 1, "aria-label": "Progress" }), el("p", { className: "small" })];
      const picture = el("img", { alt: "", hidden: true });
      const cancel = el("button", { onclick: () => this.jobs.cancel() }, "Cancel");
      this.#working = { id: job.id, name, bar, eta, picture };
      fill(pane, this.#header("Your video"), el("div", { className: "screen" }, el("div", { className: "working" }, picture, name, bar, eta, cancel)));
    }
    const { name, bar, eta, picture } = this.#working;
    if (name.textContent !== told(job)) name.textContent = told(job);
    bar.value = job.progress.fraction;
    eta.textContent = job.eta_s ? `About ${duration(job.eta_s)} left` : "";
    const { preview_url: preview } = job.progress;
    if (preview && picture.src !== preview) [picture.src, picture.hidden] = [preview, false];
  }

  #ended(job) {
    const text = {
      failed: job.error?.detail ?? "The video could not be made.",
      canceled: "You stopped it. The drawing is still here.",
      expired: "It waited longer than it was allowed to.",
    }[job.status];
    return el("div", { className: "screen" }, el("div", { className: "working" }, el("p", { className: job.status === "failed" ? "error" : "" }, text), el("button", { onclick: () => this.actions.again() }, "Try again")));
  }

  async #video(job) {
    if (this.#shownId === job.id) return;
    if (!job.result.candidates?.some(({ video_url: url }) => url === this.#take)) this.#take = null;
    this.#shownId = job.id;
    const { result } = job;
    const screen = el("div", { className: "screen" });
    const controls = el("div", { className: "controls" });
    fill($("result"), this.#header("Your video"), screen, controls, this.#facts(job));
    let url;
    try {
      url = await api.source(this.#take ?? result[`${this.#which}_url`] ?? result.video_url);
    } catch (problem) {
      return fill(screen, el("p", { className: "working error" }, problem.message));
    }
    const format = new URL(result.video_url).pathname.match(/\.(gif|webp)$/);
    if (format || STILL_PICTURES.has(job.media_type)) return this.#asImage(screen, controls, url, job);
    const video = el("video", { src: url, muted: true, loop: this.#loop, autoplay: true, playsInline: true, "aria-label": "The video" });
    video.addEventListener("error", () => this.#asImage(screen, controls, url, job), { once: true });
    this.video = video;
    fill(screen, video);
    this.#controls(controls, video, job);
  }

  #asImage(screen, controls, url, job) {
    this.video = null;
    const image = el("img", { src: url, alt: "The video", className: "video" });
    image.addEventListener("error", () => fill(screen, el("p", { className: "working error" }, "This browser can not play the video. Download it instead.")), { once: true });
    fill(screen, image);
    fill(controls, this.#choice(job));
  }

  #controls(parent, video, { result }) {
    const frame = () => Math.min(Math.floor(video.currentTime * result.fps + 0.01), result.num_frames - 1);
    const number = el("span", { className: "number", id: "video-frame" }, `0 / ${result.num_frames - 1}`);
    const step = (by) => {
      video.pause();
      video.currentTime = (Math.min(Math.max(frame() + by, 0), result.num_frames - 1) + 0.5) / result.fps;
    };
    const play = iconButton("pause", "Play or pause the video", () => (video.paused ? video.play() : video.pause()));
    const loop = iconButton("loop", "Repeat", () => {
      this.#loop = video.loop = !video.loop;
      loop.setAttribute("aria-pressed", video.loop);
    }, { "aria-pressed": video.loop });
    for (const event of ["play", "pause"]) video.addEventListener(event, () => play.replaceChildren(icon(video.paused ? "play" : "pause")));
    const tell = () => {
      if (this.video !== video || !video.isConnected) return;
      number.textContent = `${frame()} / ${result.num_frames - 1}`;
      if (this.store.ui.frame !== frame() && !this.store.ui.playing) this.#fromVideo(frame());
    };
    video.addEventListener("timeupdate", tell);
    video.addEventListener("seeked", tell);
    const each = () => video.isConnected && (tell(), video.requestVideoFrameCallback(each));
    video.requestVideoFrameCallback?.(each);
    fill(parent, iconButton("back", "Previous frame of the video", () => step(-1)), play, iconButton("next", "Next frame of the video", () => step(1)), number, loop, el("span", { className: "grow" }), this.#choice(this.jobs.current));
  }

  #leading = false;

  /** The plan goes with the video, and the video with the plan's slider. */
  #fromVideo(frame) {
    this.#leading = true;
    this.store.set({ frame });
    this.#leading = false;
  }

  #follow() {
    const { video } = this;
    const job = this.jobs.current;
    if (this.#leading || !video?.isConnected || !job?.result || document.activeElement?.id !== "scrub") return;
    video.pause();
    video.currentTime = (Math.min(this.store.ui.frame, job.result.num_frames - 1) + 0.5) / job.result.fps;
  }

  #choice(job) {
    if (!job.result.overlay_url) return null;
    const pick = (which) => el("button", { "aria-pressed": this.#which === which, onclick: () => ((this.#which = which), (this.#take = null), this.#again()) }, which === "video" ? "Video" : "With paths");
    return el("div", { className: "segmented", role: "group", "aria-label": "Which video" }, pick("video"), pick("overlay"));
  }

  #again() {
    this.#shownId = null;
    this.show();
  }

  /** Videos of other seeds that the same job made, the best first. */
  #takes({ result }) {
    const takes = result.candidates ?? [];
    if (takes.length < 2) return null;
    const shown = Math.max(takes.findIndex(({ video_url: url }) => url === this.#take), 0);
    const label = ({ seed, scores: found }) => `Seed ${seed}${Number.isFinite(found?.objmc_px) ? `, ${found.objmc_px.toFixed(1)} px` : ""}`;
    const pick = (take, i) => el("button", { "aria-pressed": i === shown, onclick: () => ((this.#which = "video"), (this.#take = i ? take.video_url : null), this.#again()) }, label(take));
    return el("section", {}, el("h3", {}, "Takes, the best first"), el("div", { className: "chips" }, takes.map(pick)));
  }

  #facts(job) {
    const { result } = job;
    const facts = `${result.width} × ${result.height}, ${result.num_frames} frames, ${result.fps} per second, seed ${result.seed}`;
    const seconds = Object.values(result.timings_s).reduce((sum, value) => sum + value, 0);
    return el(
      "div",
      { className: "facts" },
      el("section", {}, el("h3", {}, "Download"), el("div", { className: "links" }, downloads(job))),
      el(
        "section",
        { className: "links" },
        el("button", { onclick: () => this.actions.again(Math.floor(Math.random() * SEEDS)) }, "Again, another seed"),
        el("button", { onclick: () => this.actions.variations() }, "Four variations"),
        el("button", { onclick: () => this.actions.extend(job) }, "Go on from the last frame"),
      ),
      this.#takes(job),
      el("section", {}, el("p", { className: "small" }, `${facts}. Made in ${duration(seconds)}.`), job.warnings.map(warning)),
      scores(result.scores),
    );
  }
}

function downloads({ id, result }) {
  const kinds = [["video", "Video"], ["overlay", "With paths"], ["poster", "First frame"], ["frames", "All frames"], ["manifest", "Record"]];
  return kinds.filter(([name]) => result[`${name}_url`]).map(([name, label]) => el("button", { "data-artifact": name, "aria-label": `Download: ${label}`, onclick: () => download(result[`${name}_url`], `${id.slice(0, 12)}-${name}`) }, label));
}

const SUFFIX = { "video/mp4": "mp4", "video/webm": "webm", "image/gif": "gif", "image/webp": "webp", "image/jpeg": "jpg", "application/json": "json", "application/zip": "zip" };

/** Save a file; where S3 does not let pages read it, show it in another tab. */
async function download(url, stem) {
  try {
    const blob = await api.bytes(url);
    const link = el("a", { href: URL.createObjectURL(blob), download: `${stem}.${SUFFIX[blob.type] ?? "bin"}` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  } catch (problem) {
    if (problem instanceof api.Problem) return notice("download", problem.message);
    open(url, "_blank", "noopener");
  }
}

const TRACKERS = { flow: "optical flow", cotracker3: "CoTracker 3" };
const MEASURES = [["objmc_px", "Off its path"], ["objmc_px_still", "If nothing moved"], ["anchor_drift_px", "Drift of what holds still"]];

/** How far the things in the video are from their paths, where somebody has measured it. */
function scores(found) {
  if (!found) return null;
  const rows = (found.entities ?? []).map((entity, i) => [entity.label ?? `Thing ${i + 1}`, entity]);
  rows.push(["Overall", found.overall ?? found]);
  const measured = MEASURES.filter(([name]) => rows.some(([, row]) => Number.isFinite(row?.[name])));
  if (!measured.length) return null;
  const shown = (value) => (Number.isFinite(value) ? `${value.toFixed(1)} px` : "–");
  return el(
    "section",
    {},
    el("h3", {}, "Measured"),
    el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Thing"), measured.map(([, label]) => el("th", { className: "number", scope: "col" }, label)))), el("tbody", {}, rows.map(([label, row]) => el("tr", {}, el("th", { scope: "row" }, label), measured.map(([name]) => el("td", { className: "number" }, shown(row?.[name]))))))),
    found.tracker && el("p", { className: "small" }, `Measured by ${TRACKERS[found.tracker] ?? found.tracker}.`),
  );
}
