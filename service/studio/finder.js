// From clicks to a mask: the service looks; in an example, a first click takes the outline that came with the picture.

import * as api from "./api.js";
import { fromBase64, fromBlob } from "./masks.js";
import { base64Of } from "./picture.js";

export function makeFinder(store, examples, say) {
  const running = new Map();

  async function search(image, entity, signal) {
    const outlined = await outlineOf(image, entity, examples);
    if (outlined) return outlined;
    const body = { image: { base64: await base64Of(image) } };
    if (entity.clicks.length) body.points = entity.clicks;
    if (entity.box) body.box = entity.box;
    const found = await api.segment(body, signal);
    return { mask: await fromBase64(found.mask.base64, image.width, image.height) };
  }

  return async function find(id, problem = null) {
    if (id === null) return say(problem);
    running.get(id)?.abort();
    const control = new AbortController();
    running.set(id, control);
    const { image, entities } = store.doc;
    const entity = entities.find((one) => one.id === id);
    store.note(id, { pending: "Looking for its outline" });
    try {
      const found = await search(image, entity, control.signal);
      if (!found.mask.box) throw new Error("Nothing was found there. Click somewhere else, or paint it with the brush.");
      store.amend((one) => {
        const meant = one.id === id && one.clicks === entity.clicks && one.mask === entity.mask;
        if (!meant) return one;
        const label = found.label && /^Thing \d+$/.test(one.label) ? found.label : one.label;
        return Object.freeze({ ...one, mask: found.mask, label });
      });
      store.note(id, {});
    } catch (error) {
      if (control.signal.aborted) return;
      store.note(id, { error: error.message });
      say(error.message, entity.clicks.at(-1) ?? null);
    } finally {
      if (running.get(id) === control) running.delete(id);
    }
  };
}

async function outlineOf(image, entity, examples) {
  if (!image.example || entity.clicks.length !== 1 || entity.box) return null;
  const scene = (await examples).find(({ name }) => name === image.example);
  const [{ x, y }] = entity.clicks;
  for (const { label } of scene?.entities ?? []) {
    const answer = await fetch(new URL(`studio/examples/${scene.name}/${label}.png`, document.baseURI));
    if (!answer.ok) continue;
    const mask = await fromBlob(await answer.blob(), image.width, image.height);
    if (mask.has([x, y])) return { mask, label };
  }
  return null;
}
