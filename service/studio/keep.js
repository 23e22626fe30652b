// The drawing, kept on this device: it outlives reloads, lost servers and closed windows.

import { Mask } from "./masks.js";

const NAME = "draganything";
const STORE = "drawings";
const CURRENT = "current";
const KEPT_JOBS = 24;

function open() {
  return new Promise((resolve, reject) => {
    const asked = indexedDB.open(NAME, 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore(STORE);
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
}

const opened = open().catch(() => null); // private windows may have none: then nothing is kept

async function run(mode, act) {
  const base = await opened;
  if (!base) return null;
  return new Promise((resolve, reject) => {
    const transaction = base.transaction(STORE, mode);
    const asked = act(transaction.objectStore(STORE));
    transaction.oncomplete = () => resolve(asked?.result ?? null);
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}

const flat = (doc) => ({ ...doc, entities: doc.entities.map((entity) => ({ ...entity, mask: entity.mask && { width: entity.mask.width, height: entity.mask.height, bits: entity.mask.bits } })) });

function whole(doc) {
  const entities = doc.entities.map((entity) => Object.freeze({ ...entity, mask: entity.mask && new Mask(entity.mask.width, entity.mask.height, entity.mask.bits) }));
  return { ...doc, entities: Object.freeze(entities) };
}

export const save = (doc, key = CURRENT) => run("readwrite", (store) => store.put(flat(doc), key));

export async function load(key = CURRENT) {
  const doc = await run("readonly", (store) => store.get(key));
  return doc && whole(doc);
}

export const clear = () => run("readwrite", (store) => store.delete(CURRENT));

/** Keep what a job was made from; of many jobs the latest. */
export async function saveForJob(id, doc) {
  const jobs = JSON.parse(localStorage.getItem(`${NAME}.jobs`) ?? "[]");
  const kept = [id, ...jobs.filter((other) => other !== id)];
  localStorage.setItem(`${NAME}.jobs`, JSON.stringify(kept.slice(0, KEPT_JOBS)));
  for (const old of kept.slice(KEPT_JOBS)) await run("readwrite", (store) => store.delete(`job ${old}`));
  await save(doc, `job ${id}`);
}

export const loadForJob = (id) => load(`job ${id}`);

/** Save a store's doc shortly after each change. */
export function keepSaving(store, failed) {
  let timer = null;
  const now = () => {
    clearTimeout(timer);
    timer = null;
    if (store.doc.image) save(store.doc).catch(failed);
  };
  store.addEventListener("doc", () => (timer ??= setTimeout(now, 250)));
  addEventListener("pagehide", () => timer && now());
}
