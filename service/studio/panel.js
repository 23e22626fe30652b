// What moves, one card each, with what is wrong with it; and the scene as a whole.

import { $, el, field, fill, icon, iconButton, select } from "./dom.js";
import { COLORS } from "./canvas.js";
import { STILL, cameraMoves, moves } from "./state.js";
import { EASINGS, mirror, moveTo, pointsOf } from "./tracks.js";

const CAMERA = [
  ["None", () => STILL],
  ["Pan left", ({ width }) => ({ ...STILL, pan: [Math.round(width / 8), 0] })],
  ["Pan right", ({ width }) => ({ ...STILL, pan: [-Math.round(width / 8), 0] })],
  ["Pan up", ({ height }) => ({ ...STILL, pan: [0, Math.round(height / 8)] })],
  ["Pan down", ({ height }) => ({ ...STILL, pan: [0, -Math.round(height / 8)] })],
  ["Zoom in", () => ({ ...STILL, zoom: 1.25 })],
  ["Zoom out", () => ({ ...STILL, zoom: 0.8 })],
  ["Roll", () => ({ ...STILL, roll: 10 })],
];

export class Panel {
  copied = null; // {path, easing, easings, start, end, scale}

  constructor(store, preview, finder) {
    Object.assign(this, { store, preview, finder });
    store.addEventListener("change", () => this.show());
    preview.addEventListener("change", () => this.show());
  }

  #seen = [];

  show() {
    const { doc, ui } = this.store;
    if (!doc.image) return;
    const held = document.activeElement;
    if (held?.closest(".panel") && "defaultValue" in held && held.value !== held.defaultValue) {
      return held.addEventListener("blur", () => this.show(), { once: true }); // what is being typed stays
    }
    const seen = [doc, ui.selected, ui.pending, ui.errors, this.copied, this.preview.shown, this.preview.errors, this.preview.models];
    if (seen.every((value, i) => value === this.#seen[i])) return;
    this.#seen = seen;
    fill($("entities"), el("h2", {}, "What moves"), doc.entities.length ? doc.entities.map((entity, i) => this.#card(entity, i)) : el("p", { className: "small" }, "Nothing yet. Click a thing in the picture."));
    fill($("scene"), el("h2", {}, "The rest"), this.#hold(), this.#camera(), this.#output());
  }

  copy() {
    const entity = this.store.selected;
    if (!entity || !moves(entity)) return;
    const { path, easing, easings, start, end, scale } = entity;
    this.copied = { path, easing, easings, start, end, scale };
    this.show();
  }

  paste() {
    const entity = this.store.selected;
    const from = entity && (pointsOf(entity)?.[0] ?? null);
    if (!this.copied || !from) return;
    this.store.entity(entity.id, () => ({ ...this.copied, path: moveTo(this.copied.path, from), still: false }));
  }

  mirror() {
    const entity = this.store.selected;
    if (entity && moves(entity)) this.store.entity(entity.id, ({ path }) => ({ path: mirror(path) }));
  }

  remove(id) {
    this.store.commit(({ entities }) => ({ entities: entities.filter((entity) => entity.id !== id) }));
  }

  #card(entity, index) {
    const { ui } = this.store;
    const chosen = entity.id === ui.selected;
    const choose = () => chosen || this.store.set({ selected: entity.id, vertex: null });
    return el(
      "div",
      { className: `entity${chosen ? " chosen" : ""}`, onclick: choose, "data-entity": entity.label },
      el(
        "div",
        { className: "head" },
        el("span", { className: "dot", style: { background: COLORS[entity.color] } }),
        el("input", {
          className: "name", defaultValue: entity.label, maxLength: 100, "aria-label": "Name", "data-key": `name ${entity.id}`, onfocus: choose,
          onchange: (event) => this.store.entity(entity.id, () => ({ label: event.target.value.trim() || entity.label })),
        }),
        el("span", { className: "about" }, about(entity)),
        iconButton("trash", `Remove ${entity.label}`, (event) => (event.stopPropagation(), this.remove(entity.id)), { class: "tiny" }),
      ),
      el("div", { className: "messages" }, this.#messages(entity, index)),
      chosen && entity.mask && el("div", { className: "body" }, this.#inspector(entity)),
    );
  }

  #messages(entity, index) {
    const { pending, errors } = this.store.ui;
    if (pending[entity.id]) return el("div", { className: "row small" }, el("span", { className: "spinner" }), pending[entity.id]);
    const lines = [];
    if (errors[entity.id]) {
      lines.push(el("p", { className: "error" }, errors[entity.id]));
      if (!entity.mask) lines.push(el("div", {}, el("button", { className: "quiet", onclick: () => this.finder(entity.id) }, "Try again")));
    }
    for (const message of this.preview.about(`/entities/${index}`)) lines.push(warning(message));
    return lines;
  }

  #inspector(entity) {
    const change = (fields, merge = null) => this.store.entity(entity.id, () => fields, merge && `${merge} ${entity.id}`);
    if (!moves(entity)) {
      return [el("p", { className: "small" }, entity.still ? "It stays where it is." : "It stays where it is. Drag from it to draw its path."), this.copied && el("div", { className: "chips" }, el("button", { onclick: () => this.paste() }, "Paste path"))];
    }
    const [start, end] = entity.scale;
    return [
      field("Speed", select([...EASINGS, ...(entity.easings ? [["each", "Per segment"]] : [])], entity.easings ? "each" : entity.easing, (easing) => change({ easing, easings: null }), { "data-key": "easing" })),
      entity.path.length > 2 && entity.path.length <= 33 && this.#segments(entity, change),
      el(
        "div",
        { className: "columns" },
        this.#percent("Size at the start", start, (value) => change({ scale: [value, entity.scale[1]] }, "scale")),
        this.#percent("Size at the end", end, (value) => change({ scale: [entity.scale[0], value] }, "scale")),
      ),
      el(
        "div",
        { className: "chips" },
        el("button", { onclick: () => this.copy() }, "Copy path"),
        this.copied && el("button", { onclick: () => this.paste() }, "Paste path"),
        el("button", { onclick: () => this.mirror() }, "Mirror"),
        el("button", { onclick: () => change({ path: [], easings: null, still: true, start: null, end: null }) }, "Hold still"),
      ),
    ];
  }

  #segments(entity, change) {
    const each = entity.easings ?? entity.path.slice(1).map(() => entity.easing);
    const set = (i, value) => change({ easings: each.with(i, value) });
    return el(
      "details",
      { "data-key": `segments ${entity.id}` },
      el("summary", {}, "Speed of each segment"),
      el("div", { className: "segments" }, each.map((easing, i) => el("label", {}, `${i + 1}`, select(EASINGS, easing, (value) => set(i, value), { "data-key": `segment ${i}`, "aria-label": `Speed of segment ${i + 1}` })))),
    );
  }

  #percent(label, value, set) {
    const input = el("input", { type: "number", min: 10, max: 1000, step: 10, defaultValue: Math.round(value * 100), "data-key": label, onchange: () => set(Math.min(Math.max(Number(input.value) || 100, 10), 1000) / 100) });
    return field(`${label}, %`, input);
  }

  #hold() {
    const { doc } = this.store;
    const input = el("input", { type: "checkbox", role: "switch", checked: doc.hold, "data-key": "hold", onchange: (event) => this.store.commit(() => ({ hold: event.target.checked })) });
    const loop = el("input", { type: "checkbox", role: "switch", checked: doc.loop, "data-key": "loop", onchange: (event) => this.store.commit(() => ({ loop: event.target.checked })) });
    return [el("label", { className: "switch" }, el("span", {}, "Hold the rest still"), input), el("label", { className: "switch" }, el("span", {}, "Go out and come back"), loop), ...this.preview.about("/hold_background").map(warning)];
  }

  #camera() {
    const { doc } = this.store;
    const { camera } = doc;
    const preset = CAMERA.findIndex(([, make]) => ["pan", "zoom", "roll"].every((name) => String(make(doc.image)[name]) === String(camera[name])));
    const set = (fields, merge) => this.store.commit((held) => ({ camera: { ...held.camera, ...fields }, hold: held.hold || cameraMoves({ ...held.camera, ...fields }) }), merge);
    const number = (label, value, write, step) => {
      const input = el("input", { type: "number", defaultValue: value, step, "data-key": `camera ${label}`, onchange: () => input.value !== "" && Number.isFinite(Number(input.value)) && write(Number(input.value)) });
      return field(label, input);
    };
    const options = [...CAMERA.map(([name], i) => [String(i), name]), ...(preset < 0 ? [["-1", "Own"]] : [])];
    return [
      field("Camera", select(options, String(preset), (i) => set(CAMERA[i][1](doc.image)), { "data-key": "camera" })),
      cameraMoves(camera) &&
        el(
          "div",
          { className: "columns" },
          number("Shift right, px", camera.pan[0], (x) => set({ pan: [x, camera.pan[1]] }), 1),
          number("Shift down, px", camera.pan[1], (y) => set({ pan: [camera.pan[0], y] }), 1),
          number("Zoom, %", Math.round(camera.zoom * 100), (zoom) => set({ zoom: Math.min(Math.max(zoom, 1), 1000) / 100 }), 5),
          number("Roll, °", camera.roll, (roll) => set({ roll: Math.min(Math.max(roll, -360), 360) }), 1),
        ),
    ];
  }

  #output() {
    const { doc } = this.store;
    const { card } = this.preview;
    if (!card) return null;
    const set = (fields) => this.store.commit((held) => ({ output: { ...held.output, ...fields } }));
    const number = (label, name, { min, max, step = 1, placeholder }) => {
      const input = el("input", { type: "number", min, max, step, placeholder, defaultValue: doc.output[name] ?? "", "data-key": `output ${name}` });
      input.addEventListener("change", () => {
        const value = input.value === "" ? null : Math.round(Number(input.value) / step) * step;
        set({ [name]: value === null ? null : Math.min(Math.max(value, min), max) });
      });
      return field(label, input);
    };
    const models = this.preview.models.map(({ name }) => [name, name]);
    return el(
      "details",
      { "data-key": "output" },
      el("summary", {}, "Video settings"),
      el(
        "div",
        { className: "columns" },
        models.length > 1 && field("Model", select(models, card.name, (model) => set({ model }), { "data-key": "model" })),
        number("Frames", "frames", { min: 2, max: card.max_frames, placeholder: card.num_frames }),
        number("Steps", "steps", { min: 1, max: card.max_inference_steps, placeholder: card.num_inference_steps }),
        number("Seed", "seed", { min: 0, max: 2 ** 31 - 1, placeholder: "any" }),
        number("Takes", "takes", { min: 1, max: 16, placeholder: 1 }),
        field("Format", select([["mp4", "MP4"], ["webm", "WebM"], ["gif", "GIF"], ["webp", "WebP"]], doc.output.format, (format) => set({ format }), { "data-key": "format" })),
        number("Width", "width", { min: 64, max: 4096, step: 64, placeholder: "auto" }),
        number("Height", "height", { min: 64, max: 4096, step: 64, placeholder: "auto" }),
        field("Single frames", select([["", "No"], ["yes", "As PNG files"]], doc.output.images ? "yes" : "", (value) => set({ images: value === "yes" }), { "data-key": "images" })),
      ),
    );
  }
}

function about(entity) {
  if (moves(entity)) return "moves";
  return entity.mask ? "holds still" : "";
}

export function warning({ detail }) {
  return el("p", { className: "warning small" }, icon("warn", true), el("span", {}, detail));
}
