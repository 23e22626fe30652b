// What the service says of a doc before anything is rendered: the control signal, warnings, errors, the time it takes.

import * as api from "./api.js";
import { missing, requestOf } from "./request.js";

const QUIET_MS = 500;

export class Preview extends EventTarget {
  models = [];
  shown = null; // {points, radii, width, height, num_frames, warnings, seconds, frames}
  errors = []; // [{pointer, detail}]
  busy = false;
  #timer = null;
  #control = null;

  constructor(store) {
    super();
    this.store = store;
    store.addEventListener("doc", () => this.#later());
  }

  /** The card of the model that will render. */
  get card() {
    const { model } = this.store.doc.output;
    return this.models.find(({ name }) => name === model) ?? this.models.find(({ name }) => name === "tiny") ?? this.models[0] ?? null;
  }

  get frames() {
    return this.store.doc.output.frames ?? this.card?.num_frames ?? 14;
  }

  /** Warnings and errors at or below a place of the request. */
  about(pointer) {
    return [...this.errors, ...(this.shown?.warnings ?? [])].filter((message) => `${message.pointer ?? ""}/`.startsWith(`${pointer}/`));
  }

  async loadModels() {
    this.models = await api.models();
    if (!this.store.doc.output.model && this.card && this.card.name !== "tiny") this.#needsModel = true;
    this.dispatchEvent(new Event("change"));
    this.#later();
  }

  #needsModel = false;

  async request(doc) {
    const body = await requestOf(doc, this.frames);
    if (this.#needsModel && !body.model) body.model = this.card.name;
    return body;
  }

  #later() {
    clearTimeout(this.#timer);
    this.#control?.abort();
    this.busy = false;
    const { doc } = this.store;
    if (!doc.image || missing(doc)) {
      this.#set(null, []);
      return;
    }
    this.busy = true;
    this.#timer = setTimeout(() => this.#ask(doc), QUIET_MS);
  }

  async #ask(doc) {
    const control = (this.#control = new AbortController());
    try {
      const found = await api.preview(await this.request(doc), control.signal);
      const shown = { ...found, seconds: found.estimate.seconds, frames: await decode(found.animation, found.height).catch(() => null) };
      if (control.signal.aborted) return;
      this.busy = false;
      this.#set(shown, []);
    } catch (error) {
      if (control.signal.aborted) return;
      this.busy = false;
      this.#set(null, error.errors?.length ? error.errors : error.status === 422 ? [{ pointer: "", detail: error.message }] : []);
    }
  }

  #set(shown, errors) {
    this.shown?.frames?.forEach((frame) => frame.close());
    Object.assign(this, { shown, errors });
    this.dispatchEvent(new Event("change"));
  }
}

/** The frames of an animation, where the browser can take it apart. */
async function decode({ base64, format }, height) {
  if (!("ImageDecoder" in globalThis)) return null;
  const data = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  const decoder = new ImageDecoder({ data, type: `image/${format}` });
  await decoder.tracks.ready;
  const frames = [];
  for (let i = 0; i < decoder.tracks.selectedTrack.frameCount; i++) {
    const { image } = await decoder.decode({ frameIndex: i });
    frames.push(await createImageBitmap(image, 0, 0, image.displayWidth, height)); // without the bar of time below
    image.close();
  }
  decoder.close();
  return frames;
}
