// The one dialog: help, the request as code; and the field for a key.

import * as api from "./api.js";
import { $, el, fill, iconButton } from "./dom.js";
import { asCurl, asPython, shortened } from "./request.js";

export function openSheet(title, ...content) {
  const sheet = $("sheet");
  fill(sheet, el("header", {}, el("h2", { id: "sheet-title" }, title), iconButton("close", "Close", () => sheet.close(), { class: "tiny" })), el("div", { className: "content" }, content));
  if (!sheet.open) sheet.showModal();
  return sheet.querySelector(".content");
}

const KEYS = [
  ["Click a thing", "Find its outline"],
  ["Drag from a thing", "Draw its path"],
  ["Shift click|Alt click", "Add to the outline, take away from it"],
  ["Drag a point", "Move it; Shift keeps to 45°"],
  ["Press on a line", "Put a point there"],
  ["Delete", "Remove the point, or the thing"],
  ["V", "Draw"],
  ["P", "Set a line point by point; Enter ends it"],
  ["R", "Box: drag around a thing"],
  ["B|E", "Brush, eraser; [ and ] for their size"],
  ["A", "Hold still: click what shall stay"],
  ["H|Space drag", "Move the view"],
  ["Wheel|+|−|0", "Zoom, fit"],
  ["K", "Play the plan"],
  [",|.", "Previous and next frame"],
  ["O", "What the network is told"],
  ["Ctrl Z|Ctrl Shift Z", "Undo, redo"],
  ["Ctrl C|Ctrl V|M", "Copy, paste, mirror the path"],
  ["Ctrl Enter", "Generate"],
  ["Arrows|Enter", "In the picture: move a cross, click there"],
  ["N", "With a cross: next point of the path there"],
];

export function openHelp() {
  openSheet(
    "Help",
    el("p", {}, "Click a thing, drag from it to where it should go, and generate. Things without a path hold still; hold the rest as well if the camera drifts along."),
    el("dl", { className: "keys" }, KEYS.map(([keys, what]) => el("div", {}, el("dt", {}, what), el("dd", {}, keys.split("|").map((key, i) => [i ? " " : "", el("kbd", {}, key)]).flat())))),
    el("p", { className: "small" }, el("a", { href: "docs" }, "The API"), " · ", el("a", { href: "problems" }, "Problem types")),
  );
}

export async function openRequest(body) {
  const whole = JSON.stringify(body, null, 2);
  const short = shortened(body);
  const kinds = { curl: asCurl, Python: asPython, JSON: (json) => json };
  const pre = el("pre", { tabIndex: 0, "aria-label": "Code" });
  let kind = "curl";
  const tabs = el("div", { className: "segmented", role: "group", "aria-label": "Language" });
  const copy = el("button", { onclick: async () => {
    await navigator.clipboard.writeText(kinds[kind](whole));
    copy.textContent = "Copied";
    setTimeout(() => (copy.textContent = "Copy"), 1500);
  } }, "Copy");
  const show = () => {
    pre.textContent = kinds[kind](short);
    fill(tabs, Object.keys(kinds).map((name) => el("button", { "aria-pressed": name === kind, "data-key": name, onclick: () => ((kind = name), show()) }, name)));
  };
  show();
  openSheet("The same as code", el("div", { className: "row" }, tabs, el("span", { className: "grow" }), copy), pre, el("p", { className: "small" }, "Pictures are cut short here; the copy has them whole."));
}

/** Ask for a key where a call was refused without one; the page goes on with it until it is closed. */
export function askForKey(problem, again) {
  const bar = $("notices");
  bar.querySelector("[data-id=key]")?.remove();
  const input = el("input", { type: "password", name: "key", autocomplete: "off", placeholder: "da_…", required: true });
  const form = el("form", {}, el("label", {}, api.getKey() ? "This key does not work. API key" : "This server asks for an API key", input), el("button", { className: "primary" }, "Use it"));
  const line = el("div", { className: "notice info", "data-id": "key" }, form);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    api.setKey(input.value.trim());
    line.remove();
    again();
  });
  bar.append(line);
  input.focus();
}
