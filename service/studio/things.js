// What can be done to the things of a drawing with a point of the picture.

import { newEntity } from "./state.js";

const MOST = 16;

export const round = ([x, y]) => [Math.round(x * 100) / 100, Math.round(y * 100) / 100];

export class Things {
  constructor(store, finder) {
    Object.assign(this, { store, finder }); // finder(id): look for the mask of an entity
  }

  /** A new thing at a point. */
  add([x, y], fields = {}) {
    this.create({ clicks: [{ x: Math.floor(x), y: Math.floor(y), label: 1 }], ...fields });
  }

  create(fields) {
    if (this.store.doc.entities.length >= MOST) return this.finder(null, `A video takes ${MOST} things at most.`);
    const entity = newEntity(this.store.doc, fields);
    this.store.commit(({ entities }) => ({ entities: [...entities, entity] }));
    this.store.set({ selected: entity.id, vertex: null, frame: 0 });
    this.finder(entity.id);
  }

  /** A point that belongs to a thing (1), or does not (0). */
  refine(entity, [x, y], label) {
    const clicks = [...entity.clicks, { x: Math.floor(x), y: Math.floor(y), label }];
    if (!clicks.some((click) => click.label) && !entity.box) return this.finder(null, "Show first what belongs to it.");
    this.store.entity(entity.id, () => ({ clicks }));
    this.finder(entity.id);
  }

  /** Hold the thing at a point still. */
  pin(point, hit) {
    if (hit) this.store.entity(hit.id, () => ({ path: [], easings: null, still: true }));
    else this.add(point, { still: true });
    this.store.set({ selected: hit?.id ?? this.store.ui.selected, vertex: null });
  }

  /** Put a vertex into a path. */
  insert(id, at, point) {
    this.store.entity(id, ({ path, easings }) => ({
      path: path.toSpliced(at, 0, round(point)),
      easings: easings?.toSpliced(at, 0, easings[at - 1]) ?? null,
    }));
    this.store.set({ vertex: at });
  }

  /** The next point of the line of the thing `id`, or the first of the thing that is hit: the thing's id. */
  lineTo(point, { id, hit, inside }) {
    if (this.store.doc.entities.some((entity) => entity.id === id)) {
      this.store.entity(id, ({ path }) => ({ path: [...path, round(point)], easings: null, still: false }));
      return id;
    }
    if (hit) {
      this.store.entity(hit.id, () => ({ path: [round(point)], easings: null, still: false }));
      this.store.set({ selected: hit.id, vertex: null, frame: 0 });
    } else if (inside) this.add(point, { path: [round(point)] });
    else return null;
    return this.store.ui.selected;
  }
}
