// Mouse, pen and touch on the picture: each press becomes one gesture that knows how to move and how to end.

import { COLORS } from "./canvas.js";
import { newEntity, moves } from "./state.js";
import { distance, nearest, simplify, snapTo45, pointsOf } from "./tracks.js";
import { blank } from "./masks.js";
import { round } from "./things.js";

const SLOP = 4; // screen pixels that a press may move and still be a click
const REACH = { mouse: 9, pen: 12, touch: 20 };
const TOLERANCE = 1.5; // screen pixels by which a freehand line may be simplified

export class Pointer {
  #gesture = null;
  #touches = new Map();
  #pinch = null;
  #space = false;

  constructor(canvas, store, things) {
    Object.assign(this, { canvas, store, things });
    const { element } = canvas;
    element.addEventListener("pointerdown", (event) => this.#down(event));
    element.addEventListener("pointermove", (event) => this.#move(event));
    element.addEventListener("pointerup", (event) => this.#up(event));
    element.addEventListener("pointercancel", (event) => this.#cancel(event));
    element.addEventListener("pointerleave", () => this.#hover(null));
    element.addEventListener("dblclick", () => this.finish());
    element.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    element.addEventListener("contextmenu", (event) => event.preventDefault());
    addEventListener("keydown", (event) => event.code === "Space" && (this.#space = true));
    addEventListener("keyup", (event) => event.code === "Space" && (this.#space = false));
  }

  brush = 12; // radius in pixels of the picture
  fresh = false; // the next stroke paints another thing
  drawing = null; // the entity whose line is being set point by point

  /** End the line that is being set point by point. */
  finish() {
    this.drawing = null;
    this.canvas.live = null;
    this.canvas.redraw();
  }

  /** A click at a point of the picture, as the current tool means it. */
  click(point, { shift = false, alt = false } = {}) {
    const { tool } = this.store.ui;
    const hit = this.entityAt(point);
    if (!this.#inside(point)) return tool === "line" ? this.#lineTo(point) : undefined;
    if (tool === "line") return this.#lineTo(point);
    if (tool === "pin") return this.things.pin(point, hit);
    const { selected } = this.store;
    if (selected && (shift || alt)) return this.things.refine(selected, point, alt ? 0 : 1);
    if (hit) return this.store.set({ selected: hit.id, vertex: null });
    return this.things.add(point);
  }

  /** The entity whose mask is at a point: the selected one, or the one on top. */
  entityAt(point) {
    const { doc } = this.store;
    const { selected } = this.store;
    if (selected?.mask?.has(point)) return selected;
    return doc.entities.findLast((entity) => entity.mask?.has(point)) ?? null;
  }

  #inside([x, y]) {
    const { image } = this.store.doc;
    return x >= 0 && y >= 0 && x < image.width && y < image.height;
  }

  #at(event) {
    const box = this.canvas.element.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  #down(event) {
    if (!this.store.doc.image) return;
    const at = this.#at(event);
    this.canvas.element.setPointerCapture(event.pointerId);
    if (event.pointerType === "touch") {
      this.#touches.set(event.pointerId, at);
      if (this.#touches.size === 2) return this.#startPinch();
    }
    if (this.#gesture || this.#pinch) return;
    this.canvas.live = null;
    this.#gesture = this.#begin(event, at, this.canvas.toPicture(at));
  }

  #move(event) {
    const at = this.#at(event);
    if (this.#touches.has(event.pointerId)) {
      this.#touches.set(event.pointerId, at);
      if (this.#pinch) return this.#movePinch();
    }
    if (!this.#gesture) return this.#hover(event.pointerType === "touch" ? null : this.canvas.toPicture(at), event);
    const steps = event.getCoalescedEvents?.() ?? [];
    for (const step of steps.length ? steps : [event]) {
      const screen = this.#at(step);
      this.#gesture.move?.(this.canvas.toPicture(screen), screen, event);
    }
    this.canvas.redraw();
  }

  #up(event) {
    const at = this.#at(event);
    this.#touches.delete(event.pointerId);
    if (this.#pinch) return void (this.#touches.size || (this.#pinch = null));
    const gesture = this.#gesture;
    this.#gesture = null;
    this.canvas.live = null;
    gesture?.end?.(this.canvas.toPicture(at), event);
    this.canvas.redraw();
  }

  #cancel(event) {
    this.#touches.delete(event.pointerId);
    this.#gesture = this.canvas.live = null;
    this.canvas.redraw();
  }

  #begin(event, screen, point) {
    const { tool } = this.store.ui;
    if (event.button === 1 || this.#space || tool === "hand") return this.#pan(screen);
    if (event.button !== 0) return null;
    if (this.store.ui.playing) this.store.set({ playing: false });
    if (this.store.ui.frame > 0 && tool !== "draw") this.store.set({ frame: 0 });
    if (tool === "brush" || tool === "erase") return this.#stroke(point, tool === "brush" ? 1 : 0);
    if (tool === "box") return this.#box(point);
    const clicked = { end: () => this.click(point, { shift: event.shiftKey, alt: event.altKey }) };
    if (tool === "line" || tool === "pin" || event.shiftKey || event.altKey) return clicked;
    const vertex = this.#vertexAt(screen, event.pointerType);
    if (vertex !== null) return this.#drag(vertex);
    return this.#insertion(screen, event.pointerType) ?? this.#freehand(point, screen);
  }

  #pan(last) {
    return { move: (_, screen) => (this.canvas.pan(screen[0] - last[0], screen[1] - last[1]), (last = screen)) };
  }

  #vertexAt(screen, kind) {
    const { selected } = this.store;
    if (!selected) return null;
    const reach = REACH[kind] ?? REACH.mouse;
    const far = pointsOf(selected)?.map((point) => distance(this.canvas.toScreen(point), screen)) ?? [];
    const best = far.indexOf(Math.min(...far));
    return moves(selected) && far[best] <= reach ? best : null;
  }

  #drag(vertex) {
    const { id } = this.store.selected;
    const merge = Symbol("drag");
    let moved = false;
    const begun = this.store.selected.path[vertex];
    this.store.set({ vertex });
    return {
      move: (point, screen, event) => {
        if (!moved && distance(this.canvas.toScreen(begun), screen) < SLOP) return;
        moved = true;
        this.store.entity(id, ({ path }) => {
          const from = path[vertex - 1] ?? path[vertex + 1];
          const to = event.shiftKey && from ? snapTo45(from, point) : point;
          return { path: path.map((old, i) => (i === vertex ? round(to) : old)) };
        }, merge);
      },
    };
  }

  /** A press on a line puts a vertex there and drags it. */
  #insertion(screen, kind) {
    const { selected } = this.store;
    if (!selected || !moves(selected)) return null;
    const found = nearest(screen, selected.path.map((point) => this.canvas.toScreen(point)));
    if (found.distance > (REACH[kind] ?? REACH.mouse) - 2) return null;
    const at = found.segment + 1;
    let inner = null;
    return {
      move: (point, where, event) => {
        if (!inner && distance(where, screen) < SLOP) return;
        inner ??= (this.things.insert(selected.id, at, point), this.#drag(at));
        inner.move(point, where, event);
      },
      end: (point) => inner || this.things.insert(selected.id, at, this.canvas.toPicture(found.point), point),
    };
  }

  /** A drag draws the path of the entity under its start; where there is none, it is looked for there. */
  #freehand(start, screen) {
    const points = [start];
    let drawing = false;
    const hit = this.entityAt(start);
    const color = COLORS[hit?.color ?? newEntity(this.store.doc, {}).color];
    return {
      move: (point, where) => {
        drawing ||= distance(where, screen) >= SLOP && this.#inside(start);
        if (!drawing) return;
        points.push(point);
        this.canvas.live = { line: { points, color } };
      },
      end: () => {
        if (!drawing) return this.click(start);
        const path = simplify(points, TOLERANCE / this.canvas.view.scale).slice(0, 1000).map(round);
        if (!hit) return this.things.add(start, { path });
        this.store.entity(hit.id, () => ({ path, easings: null, still: false }));
        this.store.set({ selected: hit.id, vertex: null, frame: 0 });
      },
    };
  }

  #stroke(point, value) {
    const { doc } = this.store;
    const selected = this.fresh && value ? null : this.store.selected;
    const entity = selected ?? newEntity(doc, {});
    if (!value && !selected?.mask) return null;
    const points = [point];
    const { brush: radius } = this;
    const show = () => (this.canvas.live = { stroke: { points, radius, color: value ? COLORS[entity.color] : "#fff" }, brush: { at: points.at(-1), radius } });
    show();
    return {
      move: (next) => (points.push(next), show()),
      end: () => {
        const mask = (entity.mask ?? blank(doc.image.width, doc.image.height)).brushed(points, radius, value);
        if (selected) this.store.entity(entity.id, () => ({ mask }));
        else this.store.commit(({ entities }) => ({ entities: [...entities, Object.freeze({ ...entity, mask })] }));
        this.fresh = false;
        this.store.note(entity.id, {});
        this.store.set({ selected: entity.id });
      },
    };
  }

  #box(start) {
    let end = start;
    const { width, height } = this.store.doc.image;
    const inside = ([x, y]) => [Math.min(Math.max(x, 0), width), Math.min(Math.max(y, 0), height)];
    return {
      move: (point) => (this.canvas.live = { box: [start, (end = point)] }),
      end: () => {
        const [a, b] = [inside(start), inside(end)];
        const box = [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])].map(Math.round);
        if (box[2] - box[0] < 3 || box[3] - box[1] < 3) return;
        this.things.create({ box });
        this.store.set({ tool: "draw" });
      },
    };
  }

  #lineTo(point) {
    this.drawing = this.things.lineTo(point, { id: this.drawing, hit: this.entityAt(point), inside: this.#inside(point) });
  }

  #hover(point, event) {
    const { canvas, store } = this;
    const { tool } = store.ui;
    const before = [canvas.live, canvas.hovered];
    canvas.live = null;
    canvas.hovered = null;
    let cursor = "default";
    if (point && store.doc.image) {
      cursor = this.#inside(point) ? "crosshair" : "default";
      if (tool === "hand" || this.#space) cursor = "grab";
      else if (tool === "brush" || tool === "erase") [cursor, canvas.live] = ["none", { brush: { at: point, radius: this.brush } }];
      else if (tool === "draw") {
        canvas.hovered = this.entityAt(point)?.id ?? null;
        if (event && this.#vertexAt(this.#at(event), event.pointerType) !== null) cursor = "move";
      } else if (tool === "line" && this.drawing) {
        const entity = store.doc.entities.find(({ id }) => id === this.drawing);
        if (entity?.path.length) canvas.live = { line: { points: [entity.path.at(-1), point], color: COLORS[entity.color] } };
      }
    }
    canvas.element.style.cursor = cursor;
    if (before[0] !== canvas.live || before[1] !== canvas.hovered) canvas.redraw();
  }

  #wheel(event) {
    if (!this.store.doc.image) return;
    event.preventDefault();
    const unit = event.deltaMode ? 16 : 1;
    if (event.shiftKey) return this.canvas.pan(-event.deltaY * unit, 0);
    if (!event.ctrlKey && event.deltaX) return this.canvas.pan(-event.deltaX * unit, -event.deltaY * unit);
    this.canvas.zoom(Math.exp((-event.deltaY * unit) / (event.ctrlKey ? 100 : 400)), this.#at(event));
  }

  #startPinch() {
    this.#gesture = this.canvas.live = null;
    const [a, b] = [...this.#touches.values()];
    this.#pinch = { middle: [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2], apart: distance(a, b) };
  }

  #movePinch() {
    if (this.#touches.size < 2) return;
    const [a, b] = [...this.#touches.values()];
    const now = { middle: [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2], apart: distance(a, b) };
    this.canvas.pan(now.middle[0] - this.#pinch.middle[0], now.middle[1] - this.#pinch.middle[1]);
    this.canvas.zoom(now.apart / Math.max(this.#pinch.apart, 1), now.middle);
    this.#pinch = now;
  }
}
