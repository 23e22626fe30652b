// The studio: one drawing, one job, and the parts that show them.

import * as api from "./api.js";
import { Canvas } from "./canvas.js";
import { $, el, fill, icon, iconButton, notice } from "./dom.js";
import { endingOf } from "./extension.js";
import { makeFinder } from "./finder.js";
import { Gallery } from "./gallery.js";
import { Jobs, duration } from "./jobs.js";
import * as keep from "./keep.js";
import { bindKeys } from "./keys.js";
import { Panel, warning } from "./panel.js";
import { bitmapOf, fileIn, readPicture } from "./picture.js";
import { Pointer } from "./pointer.js";
import { Preview } from "./preview.js";
import { missing } from "./request.js";
import { Result } from "./result.js";
import { askForKey, openHelp, openRequest } from "./sheet.js";
import { Store, cameraMoves, moves } from "./state.js";
import { Things } from "./things.js";
import { Timeline } from "./timeline.js";

const TOOLS = [
  ["draw", "draw", "Draw: click a thing, drag its path (V)"],
  ["line", "line", "Line, point by point (P)"],
  ["box", "box", "Box around a thing (R)"],
  ["brush", "brush", "Paint the outline (B)"],
  ["erase", "erase", "Erase from the outline (E)"],
  ["pin", "pin", "Hold still (A)"],
  ["hand", "hand", "Move the view (H)"],
];
const EXAMPLE_TITLES = { quickstart: "Let the rocket fly", cat: "Turn the cat's head", coffee: "Slide the cup" };

const store = new Store();
const preview = new Preview(store);
const jobs = new Jobs(store, preview);
const canvas = new Canvas($("canvas"), store, () => ({ frames: preview.frames, preview: preview.shown }));
const examples = fetch("studio/examples.json").then((answer) => answer.json()).catch(() => []);
const finder = makeFinder(store, examples, say);
const pointer = new Pointer(canvas, store, new Things(store, finder));
const panel = new Panel(store, preview, finder);
const timeline = new Timeline(store, preview);
const gallery = new Gallery(jobs);
const request = async () => preview.request(store.doc);
new Result(store, jobs, {
  again: (seed) => generate(seed),
  variations: async () => gallery.variations(await request()),
  extend,
});

for (const button of document.querySelectorAll("[data-icon]")) button.prepend(icon(button.dataset.icon));

/** Say something where the user is looking: at a point of the picture, or in its middle. */
function say(text, at = null) {
  const bubble = $("say");
  const [x, y] = at ? canvas.toScreen([at.x, at.y]) : [canvas.element.clientWidth / 2, canvas.element.clientHeight / 2];
  bubble.textContent = text;
  bubble.hidden = false;
  bubble.style.left = `${Math.max(8, Math.min(x + 12, canvas.element.clientWidth - 272))}px`;
  bubble.style.top = `${Math.max(8, Math.min(y + 12, canvas.element.clientHeight - 80))}px`;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => (bubble.hidden = true), 6000);
}

async function openFile(file, fields) {
  if (!file) return;
  $("pick-error").textContent = "";
  try {
    const image = await readPicture(file, fields);
    if (jobs.current) jobs.close();
    store.open({ image, output: store.doc.output, hold: fields?.hold ?? false });
  } catch (error) {
    if (store.doc.image) notice("picture", error.message);
    else $("pick-error").textContent = error.message;
  }
}

/** Go on where a video ends. */
async function extend(job) {
  try {
    const doc = await endingOf(job, await keep.loadForJob(job.id).catch(() => null));
    jobs.close();
    store.open(doc);
  } catch (problem) {
    notice("extend", problem instanceof api.Problem ? problem.message : "The last frame of this video can not be read from its storage.");
  }
}

async function openExample({ name, hold_background: hold }) {
  const answer = await fetch(`studio/examples/${name}/image.jpg`);
  openFile(await answer.blob(), { name: EXAMPLE_TITLES[name] ?? name, example: name, hold });
}

async function showExamples() {
  const order = Object.keys(EXAMPLE_TITLES);
  const scenes = (await examples).toSorted((a, b) => order.indexOf(a.name) - order.indexOf(b.name));
  $("examples").append(
    ...scenes.map((scene) => {
      const title = EXAMPLE_TITLES[scene.name] ?? scene.name;
      return el("li", {}, el("button", { type: "button", onclick: () => openExample(scene), "data-example": scene.name }, el("img", { src: `studio/examples/${scene.name}/image.jpg`, alt: "", width: 200, height: 128 }), el("span", {}, title)));
    }),
  );
}

function takePictures() {
  const [file, veil] = [$("file"), $("veil")];
  const isPicture = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  $("pick").onclick = () => file.click();
  file.onchange = () => openFile(file.files[0]).then(() => (file.value = ""));
  addEventListener("paste", (event) => fileIn(event.clipboardData) && openFile(fileIn(event.clipboardData)));
  addEventListener("dragover", (event) => {
    if (!isPicture(event)) return;
    event.preventDefault();
    veil.hidden = false;
  });
  addEventListener("dragleave", (event) => event.relatedTarget || (veil.hidden = true));
  addEventListener("drop", (event) => {
    event.preventDefault();
    veil.hidden = true;
    openFile(fileIn(event.dataTransfer));
  });
}

function chooseTool(tool) {
  pointer.finish();
  store.set({ tool, vertex: null, ...(tool === "draw" || tool === "hand" ? {} : { frame: 0, playing: false }) });
  const paints = tool === "brush" || tool === "erase";
  $("options").hidden = !paints;
  if (!paints) return;
  const range = el("input", { type: "range", min: 1, max: 100, value: pointer.brush, "data-key": "brush", oninput: () => (pointer.brush = Number(range.value)) });
  const another = el("button", { className: "quiet", onclick: () => ((pointer.fresh = true), another.setAttribute("aria-pressed", true)) }, "Another thing");
  fill($("options"), el("label", { className: "row small" }, "Size", range), tool === "brush" && another);
}

async function generate(seed) {
  const lack = missing(store.doc);
  if (lack) {
    if (lack.entity) store.set({ selected: lack.entity });
    return say(lack.text);
  }
  if (jobs.starting) return;
  await jobs.start(store.doc, seed);
}

function makeTools() {
  const tools = TOOLS.map(([tool, name, label]) => iconButton(name, label, () => chooseTool(tool), { "data-tool": tool }));
  $("tools").append(...tools, el("hr"), iconButton("fit", "Fit the picture (0)", () => canvas.fit()));
}

function showTools() {
  for (const button of $("tools").querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", button.dataset.tool === store.ui.tool);
}

function showStart() {
  const { doc } = store;
  if (!doc.image) return;
  const lack = missing(doc);
  const { current, starting, problem } = jobs;
  const running = current && !api.ended(current);
  const seconds = preview.shown?.seconds;
  const general = preview.about("").filter(({ pointer: at }) => !at || !/^\/(entities\/\d+|hold_background)/.test(at));
  fill(
    $("start"),
    problem && problem.status !== 404 && el("p", { className: "error", role: "alert" }, problem.message, problem.errors?.length > 1 ? ` (${problem.errors.map(({ detail }) => detail).join(" ")})` : ""),
    !current && general.slice(0, 2).map(warning),
    el("button", { className: "primary", id: "generate", "data-key": "generate", disabled: Boolean(lack || starting || running), title: "Ctrl Enter", onclick: () => generate() }, starting ? "Sending …" : running ? "Working …" : "Generate"),
    el("p", { className: "small row" }, el("span", { className: "grow" }, lack ? lack.text : seconds ? `Takes about ${duration(seconds)}.` : preview.card ? `${preview.frames} frames with ${preview.card.name}` : "Waiting for a model …"), !lack && el("button", { className: "quiet", id: "as-code", "data-key": "code", onclick: async () => openRequest(await request()) }, "As code")),
  );
}

/** One line of help, until the first path is there. */
function coach() {
  const { doc, ui } = store;
  const first = doc.entities[0];
  if (jobs.current || ui.tool === "hand") return "";
  if (ui.tool === "box") return "Drag a box around the thing";
  if (ui.tool === "pin") return "Click what shall stay where it is";
  if (ui.tool === "line") return pointer.drawing ? "Click the next point. Enter ends the line." : "Click the thing, then point by point where it goes";
  if (!first) return ui.tool === "draw" ? "Click the thing that shall move" : "";
  if (ui.pending[first.id]) return "";
  const waiting = doc.entities.some((entity) => entity.mask && !moves(entity) && !entity.still);
  return waiting && !doc.entities.some(moves) && !cameraMoves(doc.camera) ? `Now drag from ${first.label.startsWith("Thing") ? "it" : `the ${first.label}`} to where it should go` : "";
}

function show() {
  const { doc } = store;
  document.body.classList.toggle("empty", !doc.image);
  $("undo").disabled = !store.past.length;
  $("redo").disabled = !store.future.length;
  $("coach").textContent = doc.image ? coach() : "";
  showTools();
  showStart();
}

let shownImage = null;
async function showImage() {
  const { image } = store.doc;
  if (image === shownImage) return;
  shownImage = image;
  if (!image) return;
  const bitmap = await bitmapOf(image);
  if (shownImage === image) canvas.setBitmap(bitmap);
}

const WORKER_MS = 2000; // between looks whether a worker has come up

async function start() {
  takePictures();
  makeTools();
  showExamples();
  $("undo").onclick = () => store.undo();
  $("redo").onclick = () => store.redo();
  $("new").onclick = () => (jobs.current && jobs.close(), keep.clear(), store.open({ output: store.doc.output }));
  $("open-help").onclick = openHelp;
  $("open-gallery").onclick = () => gallery.open();
  store.addEventListener("doc", showImage);
  store.addEventListener("change", show);
  preview.addEventListener("change", () => (show(), canvas.redraw()));
  jobs.addEventListener("change", show);
  bindKeys({ store, canvas, pointer, panel, timeline, tool: chooseTool, generate });
  const connect = () => preview.loadModels().then(() => (notice("models", null), preview.card || setTimeout(connect, WORKER_MS))).catch((problem) => problem.status !== 401 && notice("models", problem.message));
  api.keyEvents.addEventListener("needed", ({ detail }) => askForKey(detail, () => (connect(), jobs.openAddress())));
  const kept = await (Jobs.named ? keep.loadForJob(Jobs.named).then((doc) => doc ?? keep.load()) : keep.load()).catch(() => null);
  if (kept?.image) store.open(kept);
  keep.keepSaving(store, () => notice("keep", "This device can not keep the drawing: it will be gone after a reload.", "info"));
  show();
  connect();
  jobs.openAddress();
}

start();
globalThis.studio = { store, preview, jobs, canvas }; // for the console, and for tests
