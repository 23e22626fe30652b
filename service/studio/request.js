// From a doc to the request of POST /v1/generate, and to the same request in words of others.

import { cameraMoves, moves } from "./state.js";
import { base64Of } from "./picture.js";
import { isClosed, outward, pointsOf, span } from "./tracks.js";
import { getKey, origin } from "./api.js";

/** What keeps a doc from becoming a video: {text, entity}, or null. */
export function missing(doc) {
  if (!doc.entities.length) return { text: "Click the thing that shall move." };
  for (const entity of doc.entities) {
    if (!entity.mask?.box) return { text: `${entity.label} has no outline yet: click on it, or paint it with the brush.`, entity: entity.id };
  }
  if (!doc.entities.some(moves) && !cameraMoves(doc.camera) && !doc.entities.every((entity) => entity.still)) {
    const entity = doc.entities.find((one) => !one.still);
    return { text: `Nothing moves yet. Drag from ${entity.label} to where it should go.` };
  }
  return null;
}

/** The body for a video of so many frames. */
export async function requestOf(doc, frames) {
  const { output, camera } = doc;
  const { extends: earlier } = doc.image;
  const body = { ...(earlier ? { extends: earlier } : { image: { base64: await base64Of(doc.image) } }), entities: [] };
  if (output.model) body.model = output.model;
  for (const entity of doc.entities) body.entities.push(await entityOf(entity, doc, frames));
  if (doc.loop) body.loop = true;
  if (output.takes > 1) body.best_of = output.takes;
  if (doc.hold) body.hold_background = true;
  if (cameraMoves(camera)) body.camera = { ...camera };
  for (const [name, field] of [["frames", "num_frames"], ["steps", "num_inference_steps"], ["seed", "seed"], ["width", "width"], ["height", "height"]]) {
    if (output[name] !== null) body[field] = output[name];
  }
  body.output = { format: output.format, overlay: true, frames: output.images ?? false };
  if (output.fps) body.output.fps = output.fps;
  return body;
}

async function entityOf(entity, doc, frames) {
  const trajectory = { points: pointsOf(entity) ?? [[0, 0]] };
  if (moves(entity)) {
    if (entity.easings) trajectory.easings = entity.easings;
    else if (entity.easing !== "linear") trajectory.easing = entity.easing;
    const last = outward(frames, doc.loop && !isClosed(entity.path)) - 1;
    const [start, end] = span(entity, last);
    if (start > 0) trajectory.start_frame = start;
    if (end < last) trajectory.end_frame = end;
  }
  const [start, end] = entity.scale;
  return {
    label: entity.label.slice(0, 100),
    ...(entity.mask?.box && { mask: { base64: await entity.mask.base64() } }),
    trajectory,
    ...((start !== 1 || end !== 1) && { scale: { start, end } }),
  };
}

const SHOWN = 24;

/** The request with its files cut short, for reading. */
export function shortened(body) {
  return JSON.stringify(body, (name, value) => {
    if (name !== "base64") return value;
    return value.length > SHOWN ? `${value.slice(0, SHOWN)}… (${value.length.toLocaleString("en")} characters)` : value;
  }, 2).replace(/\[\s+(-?[\d.]+),\s+(-?[\d.]+)\s+\]/g, "[$1, $2]");
}

const header = () => (getKey() ? ` -H "Authorization: Bearer $DRAGANYTHING_API_KEY"` : "");

export function asCurl(json) {
  return `curl${header()} -H 'Content-Type: application/json' -H 'Prefer: wait=60' --data-binary @- \\\n  ${origin()}/v1/generate <<'EOF'\n${json}\nEOF`;
}

export function asPython(json) {
  const literal = json.replaceAll("\\", "\\\\").replaceAll('"""', '\\"\\"\\"');
  return `import json

from draganything_client import Client

request = json.loads("""${literal}""")

with Client("${origin()}") as client:
    job = client.wait(client.generate(request))
    client.download(job, "results")
`;
}
