// Keys of the whole page, and of the picture for those who use no mouse.

import { $ } from "./dom.js";
import { moves } from "./state.js";
import { openHelp } from "./sheet.js";

const TOOLS = { v: "draw", p: "line", r: "box", b: "brush", e: "erase", a: "pin", h: "hand" };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const typed = (target) => target.closest?.("input:not([type=range], [type=checkbox]), select, textarea, [role=slider]");

export function bindKeys({ store, canvas, pointer, panel, timeline, tool, generate }) {
  let cross = null;

  function inPicture(event) {
    const arrow = ARROWS[event.key];
    const { image } = store.doc;
    if (arrow) {
      const by = arrow.map((step) => step * (event.shiftKey ? 1 : 8));
      const { selected } = store;
      const { vertex } = store.ui;
      if (selected && vertex !== null && selected.path[vertex]) {
        store.entity(selected.id, ({ path }) => ({ path: path.with(vertex, [path[vertex][0] + by[0], path[vertex][1] + by[1]]) }), `nudge ${selected.id} ${vertex}`);
        return true;
      }
      cross ??= [image.width / 2, image.height / 2];
      cross = [Math.min(Math.max(cross[0] + by[0], 0), image.width - 1), Math.min(Math.max(cross[1] + by[1], 0), image.height - 1)];
      canvas.live = { cross };
      canvas.redraw();
      return true;
    }
    if (event.key === "Enter" && pointer.drawing) return pointer.finish() ?? true;
    if (event.key === "Enter" && cross) {
      pointer.click(cross, { shift: event.shiftKey, alt: event.altKey });
      canvas.live = { cross };
      return true;
    }
    if (event.key === "n" && cross && store.selected?.mask) {
      const start = store.selected.path[0] ?? store.selected.mask.anchor;
      store.entity(store.selected.id, ({ path }) => ({ path: [...(path.length ? path : [start]), [...cross]], still: false, easings: null }));
      return true;
    }
    return false;
  }

  function remove() {
    const { selected, ui } = store;
    if (!selected) return;
    if (ui.vertex === null || !moves(selected)) return panel.remove(selected.id);
    store.entity(selected.id, ({ path }) => ({ path: path.length > 2 ? path.toSpliced(ui.vertex, 1) : [], easings: null }));
    store.set({ vertex: null });
  }

  function withControl(event) {
    const key = event.key.toLowerCase();
    if (key === "z") event.shiftKey ? store.redo() : store.undo();
    else if (key === "y") store.redo();
    else if (key === "enter") generate();
    else if (key === "c" && !String(getSelection())) panel.copy();
    else if (key === "v" && panel.copied) panel.paste();
    else return false;
    return key !== "c";
  }

  function plain(event) {
    const key = event.key.toLowerCase();
    if (document.activeElement === canvas.element && inPicture(event)) return true;
    if (TOOLS[key]) tool(TOOLS[key]);
    else if (event.key === "Delete" || event.key === "Backspace") remove();
    else if (event.key === "Escape") (pointer.finish(), (cross = null), store.set({ vertex: null }));
    else if (event.key === ",") timeline.step(-1);
    else if (event.key === ".") timeline.step(1);
    else if (key === "k") timeline.play();
    else if (key === "o") store.set({ overlay: !store.ui.overlay });
    else if (key === "m") panel.mirror();
    else if (key === "0") canvas.fit();
    else if (event.key === "+" || event.key === "=") canvas.zoom(1.25);
    else if (event.key === "-") canvas.zoom(0.8);
    else if (event.key === "[" || event.key === "]") {
      pointer.brush = Math.min(Math.max(pointer.brush * (event.key === "]" ? 1.25 : 0.8), 1), 200);
      tool(store.ui.tool);
    } else return false;
    return true;
  }

  addEventListener("keydown", (event) => {
    if ($("sheet").open || typed(event.target)) return;
    if (event.key === "?") return openHelp();
    if (!store.doc.image) return;
    const control = event.ctrlKey || event.metaKey;
    if (control ? withControl(event) : !event.altKey || event.key === "Enter" ? plain(event) : false) event.preventDefault();
  });
  canvas.element.addEventListener("blur", () => ((cross = null), (canvas.live = null), canvas.redraw()));
}
