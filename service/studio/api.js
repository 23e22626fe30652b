// The calls of the service. Every failure is a Problem that says what to do; a 401 asks for a key.

const KEY = "draganything.key";
const RETRY_S = [1, 2, 4, 8];

export const keyEvents = new EventTarget();
export const getKey = () => sessionStorage.getItem(KEY);
export const setKey = (key) => (key ? sessionStorage.setItem(KEY, key) : sessionStorage.removeItem(KEY));

export class Problem extends Error {
  constructor({ status, code, title, detail, errors = [], retryAfter = null }) {
    super(detail || title);
    Object.assign(this, { status, code, title, detail, errors: errors ?? [], retryAfter });
  }
}

const LOST = {
  status: 0,
  code: "unreachable",
  title: "The server does not answer",
  detail: "The server does not answer. Your drawing is kept on this device; try again in a moment.",
};

const address = (path) => new URL(path, document.baseURI);

async function send(path, options = {}) {
  const key = getKey();
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  let answer;
  try {
    answer = await fetch(address(path), { ...options, headers });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Problem(LOST);
  }
  if (answer.ok) return answer;
  const problem = await problemOf(answer);
  if (answer.status === 401) keyEvents.dispatchEvent(new CustomEvent("needed", { detail: problem }));
  throw problem;
}

async function problemOf(answer) {
  const told = await answer.json().catch(() => ({}));
  const title = told.title ?? `The server answered ${answer.status}`;
  return new Problem({ status: answer.status, title, retryAfter: answer.headers.get("Retry-After"), ...told });
}

async function call(path, body, { method = "POST", headers, signal } = {}) {
  const options = { method, signal, headers: { ...headers } };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  const answer = await send(path, options);
  return answer.status === 204 ? null : answer.json();
}

const read = (path, signal) => call(path, undefined, { method: "GET", signal });
const repeatable = () => ({ headers: { "Idempotency-Key": crypto.randomUUID?.() ?? String(Math.random()) } });

export const models = async () => (await read("v1/models")).models;
export const segment = (body, signal) => call("v1/segment", body, { signal });
export const preview = (body, signal) => call("v1/preview", body, { signal });
export const generate = (body) => call("v1/generate", body, repeatable());
export const job = (id) => read(`v1/jobs/${encodeURIComponent(id)}`);
export const jobs = (after) => read(`v1/jobs?limit=24${after ? `&after=${encodeURIComponent(after)}` : ""}`);
export const cancel = (id) => call(`v1/jobs/${encodeURIComponent(id)}/cancel`);
export const forget = (id) => call(`v1/jobs/${encodeURIComponent(id)}`, undefined, { method: "DELETE" });
export const ending = async (id) => (await send(`v1/jobs/${encodeURIComponent(id)}/result?artifact=ending`)).arrayBuffer();
export const batch = (body) => call("v1/batches", body, repeatable());
export const batchState = (id) => read(`v1/batches/${encodeURIComponent(id)}`);
export const cancelBatch = (id) => call(`v1/batches/${encodeURIComponent(id)}/cancel`);
export const origin = () => address(".").href.replace(/\/$/, "");

/** Each snapshot of a job until it has ended; a lost connection is made again. `lost` hears of it. */
export async function* follow(id, signal, lost = () => {}) {
  for (let tries = 0; ; ) {
    try {
      for await (const snapshot of stream(`v1/jobs/${encodeURIComponent(id)}/events`, signal)) {
        tries = 0;
        lost(null);
        yield snapshot;
        if (ended(snapshot)) return;
      }
    } catch (error) {
      const passing = error instanceof Problem && (error.status === 0 || error.status >= 500);
      if (!passing) throw error;
      lost(error);
    }
    await pause(RETRY_S[Math.min(tries++, RETRY_S.length - 1)] * 1000, signal);
  }
}

export const ended = ({ status }) => status !== "queued" && status !== "running";

/** The data of server-sent events (EventSource can not send a key). */
async function* stream(path, signal) {
  const answer = await send(path, { signal, headers: { Accept: "text/event-stream" } });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    let piece;
    try {
      piece = await reader.read();
    } catch (error) {
      throw error.name === "AbortError" ? error : new Problem(LOST);
    }
    if (piece.done) return;
    const events = (text + piece.value.replaceAll("\r", "")).split("\n\n");
    text = events.pop();
    for (const event of events) {
      const data = event.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
      if (data.length) yield JSON.parse(data.join("\n"));
    }
  }
}

export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}

/** The bytes of an artifact. Its link may lead to the service itself, where a key is asked for, or to S3. */
export async function bytes(url) {
  const own = new URL(url).origin === location.origin;
  const key = own && getKey();
  const answer = await fetch(url, key ? { headers: { Authorization: `Bearer ${key}` } } : { credentials: "omit" });
  if (!answer.ok) throw new Problem({ status: answer.status, title: "The file is gone", detail: "The file is gone; the job may have expired." });
  return answer.blob();
}

/** What an `img` or `video` can load: the link, or where that asks for a key, the bytes behind it. */
export async function source(url) {
  return getKey() && new URL(url).origin === location.origin ? URL.createObjectURL(await bytes(url)) : url;
}
