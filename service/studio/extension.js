// Where a video ends, as a drawing to go on from: its last frame, and the things where they have come to.

import * as api from "./api.js";
import { fromBlob } from "./masks.js";
import { readPicture } from "./picture.js";
import { ENTITY } from "./state.js";

/** The doc that goes on from a job's last frame. `doc` is what the job was drawn as, where this device still knows it. */
export async function endingOf(job, doc) {
  const files = unzip(await api.ending(job.id));
  const image = { ...(await readPicture(files.get("frame.png"), { name: "The last frame" })), extends: job.id };
  const entities = await Promise.all((doc?.entities ?? []).map((entity, i) => arrived(entity, files.get(`${i + Number(doc.hold)}.png`), image)));
  return { image, hold: doc?.hold ?? false, output: { ...doc?.output, width: null, height: null, fps: null }, entities: entities.filter(Boolean) };
}

/** A thing without its path, with its new outline; null where it was not found. */
async function arrived({ id, label, color, still }, file, { width, height }) {
  return file ? Object.freeze({ ...ENTITY, id, label, color, still, mask: await fromBlob(file, width, height) }) : null;
}

const [ENTRY, STORED] = [0x04034b50, 0];

/** PNG files by name, of a zip that stores them as they are and says their sizes first. */
function unzip(bytes) {
  const view = new DataView(bytes);
  const files = new Map();
  for (let at = 0; at + 30 < bytes.byteLength && view.getUint32(at, true) === ENTRY; ) {
    const [method, size, name, extra] = [view.getUint16(at + 8, true), view.getUint32(at + 18, true), view.getUint16(at + 26, true), view.getUint16(at + 28, true)];
    const start = at + 30 + name + extra;
    if (method !== STORED) break;
    files.set(new TextDecoder().decode(new Uint8Array(bytes, at + 30, name)), new Blob([bytes.slice(start, start + size)], { type: "image/png" }));
    at = start + size;
  }
  return files;
}
