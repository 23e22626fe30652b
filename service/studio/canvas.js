// The picture with everything that was drawn on it. Zoom and pan are the view's alone: a doc is in pixels of the picture.

import { moves } from "./state.js";
import { cameraAt, pointsOf, sizesOf, trackOf } from "./tracks.js";

export const COLORS = ["#ff6b2c", "#12b8a6", "#e64980", "#845ef7", "#82c91e", "#fab005", "#339af0", "#d9480f"];
const SHADE = "#101114";
const MARGIN = 32;
const MAX_ZOOM = 32;

export class Canvas {
  view = { scale: 1, x: 0, y: 0 };
  live = null; // what a gesture shows before it is done: {stroke, line, box, brush, cross}
  hovered = null;
  bitmap = null;
  #dirty = false;
  #fitted = true;

  constructor(element, store, shown) {
    Object.assign(this, { element, store, shown }); // shown(): {frames, preview}
    this.context = element.getContext("2d");
    new ResizeObserver(() => this.#resize()).observe(element);
    store.addEventListener("change", () => this.redraw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
  }

  setBitmap(bitmap) {
    this.bitmap = bitmap;
    this.fit();
  }

  fit() {
    const { clientWidth: width, clientHeight: height } = this.element;
    const { image } = this.store.doc;
    if (!image || !width || !height) return;
    const scale = Math.min((width - 2 * MARGIN) / image.width, (height - 2 * MARGIN) / image.height);
    this.view = { scale, x: (width - image.width * scale) / 2, y: (height - image.height * scale) / 2 };
    this.#fitted = true;
    this.redraw();
  }

  zoom(factor, [x, y] = [this.element.clientWidth / 2, this.element.clientHeight / 2]) {
    const scale = Math.min(Math.max(this.view.scale * factor, 0.02), MAX_ZOOM);
    const ratio = scale / this.view.scale;
    this.view = { scale, x: x - (x - this.view.x) * ratio, y: y - (y - this.view.y) * ratio };
    this.#fitted = false;
    this.redraw();
  }

  pan(dx, dy) {
    this.view = { ...this.view, x: this.view.x + dx, y: this.view.y + dy };
    this.#fitted = false;
    this.redraw();
  }

  toPicture([x, y]) {
    return [(x - this.view.x) / this.view.scale, (y - this.view.y) / this.view.scale];
  }

  toScreen([x, y]) {
    return [x * this.view.scale + this.view.x, y * this.view.scale + this.view.y];
  }

  redraw() {
    if (this.#dirty) return;
    this.#dirty = true;
    requestAnimationFrame(() => {
      this.#dirty = false;
      this.#draw();
    });
  }

  #resize() {
    const ratio = devicePixelRatio || 1;
    this.element.width = Math.round(this.element.clientWidth * ratio);
    this.element.height = Math.round(this.element.clientHeight * ratio);
    if (this.#fitted) this.fit();
    this.redraw();
  }

  #draw() {
    const { context, bitmap, view } = this;
    const { doc, ui } = this.store;
    const ratio = devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.element.width, this.element.height);
    if (!bitmap || !doc.image) return;
    const { frames, preview } = this.shown();
    const frame = Math.min(ui.frame, frames - 1);
    context.save();
    context.translate(view.x, view.y);
    context.scale(view.scale, view.scale);
    context.imageSmoothingEnabled = view.scale < 4;
    const tracks = new Map(doc.entities.map((entity) => [entity.id, trackOf(entity, doc, frames)]));
    if (frame > 0) this.#ghosts(tracks, frame, frames);
    else {
      context.drawImage(bitmap, 0, 0, doc.image.width, doc.image.height);
      for (const entity of doc.entities) this.#mask(entity, ui);
    }
    if (ui.overlay && preview) this.#overlay(preview, frame);
    context.restore();
    for (const entity of doc.entities) this.#path(entity, tracks.get(entity.id), ui, frame);
    if (this.live) this.#live(this.live);
  }

  #mask(entity, ui) {
    if (!entity.mask?.box) return;
    const { context } = this;
    const strong = entity.id === ui.selected || entity.id === this.hovered;
    context.globalAlpha = strong ? 0.42 : 0.28;
    context.drawImage(entity.mask.tinted(COLORS[entity.color]), 0, 0);
    context.globalAlpha = strong ? 1 : 0.7;
    context.drawImage(entity.mask.outlined(COLORS[entity.color]), 0, 0);
    context.globalAlpha = 1;
  }

  /** The picture as the camera sees it, and every entity where it will be, cut out; what it leaves is shaded. */
  #ghosts(tracks, frame, frames) {
    const { context, bitmap } = this;
    const { doc } = this.store;
    const { width, height } = doc.image;
    const there = doc.entities.filter((entity) => entity.mask?.box && tracks.get(entity.id));
    const { angle, factor, pan } = cameraAt(doc.camera, frames, doc.loop)[frame];
    context.save();
    context.beginPath();
    context.rect(0, 0, width, height);
    context.clip();
    context.fillStyle = SHADE;
    context.fillRect(0, 0, width, height);
    context.save();
    context.translate(width / 2 + pan[0], height / 2 + pan[1]);
    context.rotate(angle);
    context.scale(factor, factor);
    context.translate(-width / 2, -height / 2);
    context.drawImage(bitmap, 0, 0, width, height);
    context.globalAlpha = 0.6;
    for (const entity of there.filter(moves)) context.drawImage(entity.mask.tinted(SHADE), 0, 0);
    context.restore();
    for (const entity of there) {
      const track = tracks.get(entity.id);
      const sizes = sizesOf(entity, doc, frames);
      const size = (factor * sizes[frame]) / sizes[0];
      const [x0, y0] = entity.mask.box;
      context.save();
      context.translate(...track[frame]);
      context.rotate(angle);
      context.scale(size, size);
      context.drawImage(entity.mask.cut(bitmap), x0 - track[0][0], y0 - track[0][1]);
      context.restore();
    }
    context.restore();
  }

  /** What the network is told: heat and discs as they come from the server, or its discs where it can not be decoded. */
  #overlay(preview, frame) {
    const { context } = this;
    const { width, height } = this.store.doc.image;
    const picture = preview.frames?.[Math.min(frame, preview.frames.length - 1)];
    context.save();
    context.fillStyle = "rgb(0 0 0 / .45)";
    context.fillRect(0, 0, width, height);
    context.globalCompositeOperation = "screen";
    if (picture) {
      context.drawImage(picture, preview.width, 0, preview.width, preview.height, 0, 0, width, height);
      context.drawImage(picture, 0, 0, preview.width, preview.height, 0, 0, width, height);
    } else {
      const [sx, sy] = [width / preview.width, height / preview.height];
      preview.points.forEach((points, i) => {
        const at = Math.min(frame, points.length - 1);
        context.fillStyle = COLORS[this.store.doc.entities[i]?.color ?? 0];
        context.beginPath();
        context.ellipse(points[at][0] * sx, points[at][1] * sy, preview.radii[i][at] * sx, preview.radii[i][at] * sy, 0, 0, 7);
        context.fill();
      });
    }
    context.restore();
  }

  #path(entity, track, ui, frame) {
    const chosen = entity.id === ui.selected;
    const color = COLORS[entity.color];
    const points = (pointsOf(entity) ?? []).map((point) => this.toScreen(point));
    if (!points.length) {
      for (const click of entity.clicks) this.#dot(this.toScreen([click.x, click.y]), 6, color, "#fff");
      return;
    }
    if (moves(entity)) {
      this.#line(points, "rgb(255 255 255 / .9)", chosen ? 7 : 5);
      this.#line(points, color, chosen ? 4 : 2.5);
      this.#arrow(points, color);
      if (chosen) {
        for (const point of track.slice(1, -1)) this.#dot(this.toScreen(point), 2, "#fff");
        points.forEach((point, i) => this.#dot(point, 5, i === ui.vertex ? color : "#fff", i === ui.vertex ? "#fff" : color));
      } else this.#dot(points[0], 4, "#fff", color);
    } else this.#anchor(points[0], color);
    if (track && frame > 0 && moves(entity)) this.#dot(this.toScreen(track[frame]), 7, color, "#fff");
    if (chosen && frame === 0) {
      for (const click of entity.clicks.slice(1)) this.#sign(this.toScreen([click.x, click.y]), click.label);
    }
  }

  #line(points, style, width) {
    const { context } = this;
    context.beginPath();
    points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
    Object.assign(context, { strokeStyle: style, lineWidth: width, lineJoin: "round", lineCap: "round" });
    context.stroke();
  }

  #arrow(points, color) {
    const { context } = this;
    const tip = points.at(-1);
    const before = points.findLast(([x, y]) => Math.hypot(x - tip[0], y - tip[1]) > 6) ?? points[0];
    const angle = Math.atan2(tip[1] - before[1], tip[0] - before[0]);
    context.save();
    context.translate(...tip);
    context.rotate(angle);
    context.beginPath();
    context.moveTo(16, 0);
    context.lineTo(-1, -9);
    context.lineTo(-1, 9);
    context.closePath();
    Object.assign(context, { fillStyle: color, strokeStyle: "#fff", lineWidth: 2, lineJoin: "round" });
    context.stroke();
    context.fill();
    context.restore();
  }

  #dot([x, y], radius, fill, stroke = null) {
    const { context } = this;
    context.beginPath();
    context.arc(x, y, radius, 0, 7);
    context.fillStyle = fill;
    context.fill();
    if (!stroke) return;
    Object.assign(context, { strokeStyle: stroke, lineWidth: 2 });
    context.stroke();
  }

  #anchor([x, y], color) {
    this.#dot([x, y], 9, color, "#fff");
    this.context.fillStyle = "#fff";
    this.context.fillRect(x - 3.5, y - 3.5, 7, 7);
  }

  #sign([x, y], label) {
    this.#dot([x, y], 7, label ? "#1d6b3a" : "#b3261e", "#fff");
    this.context.fillStyle = "#fff";
    this.context.fillRect(x - 3.5, y - 1, 7, 2);
    if (label) this.context.fillRect(x - 1, y - 3.5, 2, 7);
  }

  #live({ stroke, line, box, brush, cross }) {
    const { context } = this;
    if (stroke) {
      context.globalAlpha = 0.5;
      this.#line(stroke.points.map((point) => this.toScreen(point)), stroke.color, 2 * stroke.radius * this.view.scale);
      context.globalAlpha = 1;
    }
    if (line) {
      const points = line.points.map((point) => this.toScreen(point));
      this.#line(points, "#fff", 7);
      this.#line(points, line.color, 4);
    }
    if (box) {
      const [[x0, y0], [x1, y1]] = [this.toScreen(box[0]), this.toScreen(box[1])];
      for (const [style, dash] of [["#fff", []], ["#222", [5, 5]]]) {
        Object.assign(context, { strokeStyle: style, lineWidth: 1.5 });
        context.setLineDash(dash);
        context.strokeRect(x0, y0, x1 - x0, y1 - y0);
      }
      context.setLineDash([]);
    }
    if (brush) {
      for (const [style, grow] of [["#fff", 1], ["#222", 0]]) {
        context.beginPath();
        context.arc(...this.toScreen(brush.at), brush.radius * this.view.scale + grow, 0, 7);
        Object.assign(context, { strokeStyle: style, lineWidth: 1 });
        context.stroke();
      }
    }
    if (cross) {
      const [x, y] = this.toScreen(cross);
      for (const [style, width] of [["#fff", 4], ["#222", 1.5]]) {
        context.beginPath();
        for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
          context.moveTo(x + 4 * dx, y + 4 * dy);
          context.lineTo(x + 14 * dx, y + 14 * dy);
        }
        Object.assign(context, { strokeStyle: style, lineWidth: width });
        context.stroke();
      }
    }
  }
}
