// Pictures: read, turned upright, made no larger than a model can show.

import { toBase64 } from "./masks.js";

export const MAX_SIDE = 2048;
const MAX_FILE = 100 * 2 ** 20;
const TAKEN = new Set(["image/png", "image/jpeg", "image/webp"]);
const MIN_SIDE = 16;

const encoded = new WeakMap();
const bitmaps = new WeakMap();

/** What a doc keeps of a picture file. Throws an Error that says what to do. */
export async function readPicture(file, { name = file.name ?? "picture", example = null } = {}) {
  if (file.size > MAX_FILE) throw new Error(`${name} has ${Math.round(file.size / 2 ** 20)} MB. Choose a picture of at most 100 MB.`);
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Error(`${name} can not be read as a picture. Choose a PNG, JPEG or WebP.`);
  }
  if (Math.min(bitmap.width, bitmap.height) < MIN_SIDE) throw new Error(`${name} is too small: each side needs ${MIN_SIDE} pixels or more.`);
  const factor = Math.min(1, MAX_SIDE / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [Math.round(bitmap.width * factor), Math.round(bitmap.height * factor)];
  if (factor === 1 && TAKEN.has(file.type)) {
    bitmaps.set(file, bitmap);
    return Object.freeze({ blob: file, name, width, height, example });
  }
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  const blob = await canvas.convertToBlob(file.type === "image/png" ? { type: "image/png" } : { type: "image/jpeg", quality: 0.95 });
  return Object.freeze({ blob, name, width, height, example });
}

export async function bitmapOf({ blob }) {
  if (!bitmaps.has(blob)) bitmaps.set(blob, await createImageBitmap(blob));
  return bitmaps.get(blob);
}

/** The file as requests carry it. */
export function base64Of({ blob }) {
  if (!encoded.has(blob)) encoded.set(blob, toBase64(blob));
  return encoded.get(blob);
}

/** The picture among what was dropped or pasted, if there is one. */
export function fileIn(transfer) {
  const files = [...(transfer?.files ?? [])];
  return files.find((file) => file.type.startsWith("image/")) ?? files[0] ?? null;
}
