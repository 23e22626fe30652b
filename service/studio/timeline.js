// Time: the frame that is shown, and from when to when each thing moves.

import { $, el, fill, icon, iconButton } from "./dom.js";
import { COLORS } from "./canvas.js";
import { moves } from "./state.js";
import { isClosed, outward, span } from "./tracks.js";

export class Timeline {
  #timer = null;

  constructor(store, preview) {
    Object.assign(this, { store, preview });
    store.addEventListener("change", () => this.show());
    preview.addEventListener("change", () => this.show());
  }

  get last() {
    return this.preview.frames - 1;
  }

  play(playing = !this.store.ui.playing) {
    this.store.set({ playing, frame: playing && this.store.ui.frame >= this.last ? 0 : this.store.ui.frame });
    this.#run();
  }

  step(by) {
    this.store.set({ playing: false, frame: Math.min(Math.max(this.store.ui.frame + by, 0), this.last) });
    this.#run();
  }

  #run() {
    clearInterval(this.#timer);
    if (!this.store.ui.playing) return;
    this.#timer = setInterval(() => {
      if (!this.store.ui.playing) return clearInterval(this.#timer);
      this.store.set({ frame: (this.store.ui.frame + 1) % (this.last + 1) });
    }, 1000 / (this.preview.card?.fps ?? 7));
  }

  #build() {
    const range = el("input", { type: "range", min: 0, value: 0, id: "scrub", "aria-label": "Frame" });
    range.addEventListener("input", () => this.store.set({ playing: false, frame: Number(range.value) }));
    const number = el("span", { className: "number", id: "frame-number" });
    const play = iconButton("play", "Play the plan (K)", () => this.play());
    const overlay = iconButton("waves", "Show what the network is told (O)", () => this.store.set({ overlay: !this.store.ui.overlay }), { id: "overlay" });
    const tracks = el("div");
    $("timeline").replaceChildren(
      el(
        "div",
        { className: "head" },
        iconButton("back", "Previous frame (,)", () => this.step(-1), { class: "tiny" }),
        play,
        iconButton("next", "Next frame (.)", () => this.step(1), { class: "tiny" }),
        number,
        el("span", { className: "grow" }),
        overlay,
      ),
      el("div", { className: "track" }, el("span", { className: "name small" }, "Frame"), el("div", { className: "lane ruler" }, range)),
      tracks,
    );
    return { range, number, play, overlay, tracks };
  }

  /** The parts are made once: a slider that is being dragged must stay. */
  show() {
    const { doc, ui } = this.store;
    if (!doc.image) return;
    const { range, number, play, overlay, tracks } = (this.parts ??= this.#build());
    const frame = Math.min(ui.frame, this.last);
    range.max = this.last;
    range.value = frame;
    range.setAttribute("aria-valuetext", `Frame ${frame} of ${this.last}`);
    number.textContent = `${frame} / ${this.last}`;
    play.replaceChildren(icon(ui.playing ? "pause" : "play"));
    play.title = ui.playing ? "Pause (K)" : "Play the plan (K)";
    play.setAttribute("aria-label", play.title);
    overlay.setAttribute("aria-pressed", ui.overlay);
    overlay.disabled = !this.preview.shown;
    fill(tracks, doc.entities.filter(moves).map((entity) => this.#track(entity, frame)));
  }

  #track(entity, frame) {
    const color = COLORS[entity.color];
    const out = outward(this.last + 1, this.store.doc.loop && !isClosed(entity.path)) - 1;
    const [start, end] = span(entity, out);
    const lane = el("div", { className: "lane" });
    const at = (value) => `${(100 * value) / Math.max(this.last, 1)}%`;
    lane.append(
      el("div", { className: "span", style: { left: at(start), width: at(end - start), background: color } }),
      el("div", { className: "now", style: { left: at(frame) } }),
      this.#handle(entity, lane, "start", start, [0, end - 1], out),
      this.#handle(entity, lane, "end", end, [start + 1, out], out),
    );
    return el("div", { className: "track" }, el("span", { className: "name" }, el("span", { className: "dot", style: { background: color } }), el("span", {}, entity.label)), lane);
  }

  #handle(entity, lane, side, value, [min, max], out) {
    const key = `${side} ${entity.id}`;
    const move = (to, merge) => {
      const frame = Math.min(Math.max(Math.round(to), min), max);
      const whole = frame === (side === "start" ? 0 : out);
      this.store.entity(entity.id, () => ({ [side]: whole ? null : frame }), merge);
    };
    const handle = el("button", {
      type: "button", className: "handle", role: "slider", "data-key": key, "aria-label": `${entity.label}: ${side === "start" ? "first" : "last"} frame that it moves in`,
      "aria-valuemin": min, "aria-valuemax": max, "aria-valuenow": value, title: `${side === "start" ? "Starts" : "Ends"} at frame ${value}`,
      style: { left: `${(100 * value) / Math.max(this.last, 1)}%`, background: COLORS[entity.color] },
      onkeydown: (event) => {
        const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
        if (!by) return;
        event.preventDefault();
        event.stopPropagation();
        move(value + by, key);
      },
      onpointerdown: (event) => {
        const box = lane.getBoundingClientRect();
        const merge = Symbol(key);
        const moved = (next) => move(((next.clientX - box.left) / box.width) * this.last, merge);
        const done = () => (removeEventListener("pointermove", moved), removeEventListener("pointerup", done));
        addEventListener("pointermove", moved);
        addEventListener("pointerup", done);
        event.preventDefault();
      },
    });
    return handle;
  }
}
