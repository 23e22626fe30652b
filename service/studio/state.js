// What the user has made (doc) and how they look at it (ui). A doc is never changed in place: undo is keeping the old one.

export const STILL = Object.freeze({ pan: Object.freeze([0, 0]), zoom: 1, roll: 0, easing: "linear" });

export const EMPTY = Object.freeze({
  image: null, // {blob, name, width, height, example}
  entities: Object.freeze([]),
  camera: STILL,
  hold: false,
  loop: false, // out and back
  output: Object.freeze({ model: null, seed: null, frames: null, steps: null, width: null, height: null, takes: null, format: "mp4" }),
});

export const ENTITY = Object.freeze({
  label: "",
  color: 0,
  clicks: Object.freeze([]),
  box: null, // [x0, y0, x1, y1] that it fills
  mask: null, // masks.js
  path: Object.freeze([]), // [[x, y], …] in pixels of the picture; fewer than two points hold still
  still: false, // meant to hold still
  easing: "linear",
  easings: null, // one per segment
  start: null,
  end: null,
  scale: Object.freeze([1, 1]),
});

const MAX_PAST = 100;

export class Store extends EventTarget {
  doc = EMPTY;
  ui = { tool: "draw", selected: null, vertex: null, frame: 0, playing: false, overlay: false, pending: {}, errors: {} };
  past = [];
  future = [];
  #merge = null;

  /** Change the doc. Changes that follow each other with the same `merge` are undone together. */
  commit(change, merge = null) {
    const next = Object.freeze({ ...this.doc, ...change(this.doc) });
    if (merge === null || merge !== this.#merge) this.past = [...this.past.slice(1 - MAX_PAST), this.doc];
    this.#merge = merge;
    this.future = [];
    this.#show(next);
  }

  /** Change one entity. */
  entity(id, change, merge = null) {
    this.commit((doc) => ({ entities: withEntity(doc.entities, id, change) }), merge);
  }

  /** Write something that came later into every kept doc: what `change` makes of each of its entities. */
  amend(change) {
    const amended = (doc) => {
      const entities = doc.entities.map(change);
      return entities.every((entity, i) => entity === doc.entities[i]) ? doc : Object.freeze({ ...doc, entities });
    };
    this.past = this.past.map(amended);
    this.future = this.future.map(amended);
    this.#show(amended(this.doc));
  }

  /** Begin with another doc; nothing before it can be undone. */
  open(doc) {
    [this.past, this.future, this.#merge] = [[], [], null];
    this.set({ selected: null, vertex: null, frame: 0, playing: false, pending: {}, errors: {} });
    this.#show(Object.freeze({ ...EMPTY, ...doc }));
  }

  undo() {
    if (!this.past.length) return;
    this.future = [this.doc, ...this.future];
    this.#step(this.past.at(-1));
    this.past = this.past.slice(0, -1);
    this.dispatchEvent(new Event("change"));
  }

  redo() {
    if (!this.future.length) return;
    this.past = [...this.past, this.doc];
    this.#step(this.future[0]);
    this.future = this.future.slice(1);
    this.dispatchEvent(new Event("change"));
  }

  /** Change how it is looked at. */
  set(ui) {
    this.ui = { ...this.ui, ...ui };
    this.dispatchEvent(new Event("change"));
  }

  /** Note what concerns one entity: that it waits for an answer, or what went wrong. */
  note(id, { pending = null, error = null }) {
    this.set({ pending: { ...this.ui.pending, [id]: pending }, errors: { ...this.ui.errors, [id]: error } });
  }

  get selected() {
    return this.doc.entities.find((entity) => entity.id === this.ui.selected) ?? null;
  }

  #step(doc) {
    this.#merge = null;
    this.doc = doc;
    this.ui = { ...this.ui, vertex: null };
    this.#keepSelection();
    this.dispatchEvent(new Event("doc"));
  }

  #show(doc) {
    this.doc = doc;
    this.#keepSelection();
    this.dispatchEvent(new Event("doc"));
    this.dispatchEvent(new Event("change"));
  }

  #keepSelection() {
    if (!this.selected) this.ui = { ...this.ui, selected: this.doc.entities.at(-1)?.id ?? null, vertex: null };
  }
}

export function withEntity(entities, id, change) {
  return entities.map((entity) => (entity.id === id ? Object.freeze({ ...entity, ...change(entity) }) : entity));
}

/** A new entity with a colour that no other has, if there is one. */
export function newEntity(doc, fields) {
  const taken = new Set(doc.entities.map((entity) => entity.color));
  const free = [0, 1, 2, 3, 4, 5, 6, 7].find((color) => !taken.has(color));
  const color = free ?? doc.entities.length % 8;
  const label = fields.label || unusedLabel(doc, "Thing");
  return Object.freeze({ ...ENTITY, id: crypto.randomUUID?.() ?? String(Math.random()), color, ...fields, label });
}

export function unusedLabel(doc, stem) {
  const labels = new Set(doc.entities.map((entity) => entity.label));
  for (let n = 1; ; n++) if (!labels.has(`${stem} ${n}`)) return `${stem} ${n}`;
}

export const moves = (entity) => entity.path.length > 1;
export const cameraMoves = ({ pan, zoom, roll }) => pan[0] !== 0 || pan[1] !== 0 || zoom !== 1 || roll !== 0;
