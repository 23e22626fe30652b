// Elements in few words.

/** An element with properties (data-*, aria-* and on… too) and children; null and false children are left out. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else if (name in element && !name.startsWith("aria") && name !== "list") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== false && child !== undefined));
  return element;
}

export const $ = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

export function icon(name, small = false) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  svg.setAttribute("class", small ? "i small" : "i");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** A button that shows an icon and says what it does. */
export function iconButton(name, label, onclick, properties = {}) {
  return el("button", { type: "button", class: "icon", title: label, "aria-label": label, onclick, ...properties, className: `icon ${properties.class ?? ""}` }, icon(name));
}

export function field(label, control) {
  return el("label", { className: "field" }, el("span", {}, label), control);
}

export function select(options, value, onchange, properties = {}) {
  const element = el("select", { onchange: () => onchange(element.value), ...properties }, options.map(([name, text]) => el("option", { value: name, selected: name === value }, text)));
  return element;
}

/** Put new children into an element, but keep the focus where it was (by data-key), and the caret. */
export function fill(parent, ...children) {
  const held = document.activeElement;
  const key = parent.contains(held) ? held.dataset.key : null;
  const caret = key && "selectionStart" in held ? held.selectionStart : null;
  const open = new Set([...parent.querySelectorAll("details[open]")].map((details) => details.dataset.key));
  parent.replaceChildren(...children.flat().filter(Boolean));
  for (const details of parent.querySelectorAll("details")) if (open.has(details.dataset.key)) details.open = true;
  if (!key) return;
  const again = parent.querySelector(`[data-key="${CSS.escape(key)}"]`);
  again?.focus({ preventScroll: true });
  if (again && caret !== null) again.setSelectionRange?.(caret, caret);
}

/** A message under the bar that goes when what it tells of has passed, or when it is closed. */
export function notice(id, text, kind = "error") {
  const bar = $("notices");
  const there = bar.querySelector(`[data-id="${id}"]`);
  if (!text) return there?.remove();
  if (there) return (there.firstChild.textContent = text);
  const line = el("div", { className: `notice ${kind}`, "data-id": id }, el("span", {}, text), iconButton("close", "Close this message", () => line.remove(), { class: "tiny" }));
  bar.append(line);
}
