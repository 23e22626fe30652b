// Two videos, two questions: which of them a rater prefers, and nothing about what they are.

import { $, el } from "./dom.js";

const QUESTIONS = [
  ["motion", "Which video moves as it was asked to?"],
  ["quality", "Which video looks better?"],
];
const CHOICES = [["left", "Left"], ["tie", "No difference"], ["right", "Right"]];
const ARROWS = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie" };
const link = location.hash.slice(1);
const base = `v1/studies/${encodeURIComponent(link)}`;
const kept = `study ${link}`;
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;

const study = { ballot: null, answers: {}, paths: false, sending: false };

/** The rater that this browser was given for this study, so that no pair comes twice. */
const rater = {
  get: () => { try { return localStorage.getItem(kept); } catch { return null; } },
  set: (name) => { try { localStorage.setItem(kept, name); } catch { /* a private window: a reload begins anew */ } },
};

async function call(path, options = {}) {
  const answer = await fetch(base + path, options).catch(() => { throw new Error("The service does not answer."); });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(body.detail ?? `The service answers ${answer.status}.`), { status: answer.status });
  return body;
}

function say(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
  $("ballot").hidden = Boolean(text);
}

function show(ballot) {
  Object.assign(study, { ballot, answers: {} });
  rater.set(ballot.rater);
  $("study").setAttribute("aria-busy", "false");
  $("title").textContent = ballot.title || "Compare two videos";
  $("problem").textContent = "";
  if (ballot.place === null) {
    $("pair").replaceChildren();
    $("count").textContent = "";
    return say(ballot.done === ballot.total ? "That was the last pair. Thank you." : "There is no pair left to compare. Thank you.");
  }
  $("count").textContent = `Pair ${ballot.done + 1} of ${ballot.total}`;
  say("");
  showVideos();
  showQuestions();
}

function showVideos() {
  const { ballot, paths } = study;
  const overlays = Boolean(ballot.left.overlay_url);
  const figure = (side, name) => {
    const { media_type: kind, video_url: video, overlay_url: overlay } = ballot[side];
    const properties = { src: paths && overlays ? overlay : video, "aria-label": `${name} video`, "data-side": side };
    const moving = kind.startsWith("video/") || (paths && overlays);
    const media = moving ? el("video", { ...properties, muted: true, playsInline: true, preload: "auto" }) : el("img", { ...properties, alt: `${name} video` });
    media.addEventListener("error", () => ($("problem").textContent = "A video can not be shown. Reload the page to try again."));
    return el("figure", {}, media, el("figcaption", { className: "small" }, name));
  };
  $("pair").replaceChildren(figure("left", "Left"), figure("right", "Right"));
  for (const video of videos()) {
    video.addEventListener("canplay", () => !calm && together("readyState", (state) => state > 2), { once: true });
    video.addEventListener("ended", () => together("ended", Boolean));
  }
  $("controls").replaceChildren(
    ...(videos().length ? [el("button", { type: "button", id: "play", onclick: play }, "Play or pause both")] : []),
    ...(overlays ? [el("button", { type: "button", id: "paths", "aria-pressed": String(paths), onclick: togglePaths }, "Show the asked paths")] : []),
  );
}

const videos = () => [...$("pair").querySelectorAll("video")];

/** Begin both at once when both have come so far. */
function together(property, enough) {
  if (!videos().every((video) => enough(video[property]))) return;
  for (const video of videos()) {
    video.currentTime = 0;
    video.play().catch(() => {});
  }
}

function play() {
  const playing = videos().some((video) => !video.paused);
  for (const video of videos()) playing ? video.pause() : video.play().catch(() => {});
}

function togglePaths() {
  study.paths = !study.paths;
  showVideos();
  $("paths").focus();
}

function showQuestions() {
  $("questions").replaceChildren(...QUESTIONS.map(([question, text]) => {
    const answers = CHOICES.map(([choice, name]) => el("button", { type: "button", "data-answer": `${question} ${choice}`, "aria-pressed": "false", onclick: () => answer(question, choice) }, name));
    return el("fieldset", { "data-question": question }, el("legend", {}, text), el("div", { className: "answers" }, answers));
  }));
  showAnswers();
}

function showAnswers() {
  for (const button of $("questions").querySelectorAll("button")) {
    const [question, choice] = button.dataset.answer.split(" ");
    button.setAttribute("aria-pressed", String(study.answers[question] === choice));
  }
  for (const set of $("questions").children) set.classList.toggle("now", set.dataset.question === open());
  $("send").disabled = Boolean(open()) || study.sending;
}

/** The first question that has no answer. */
const open = () => QUESTIONS.map(([question]) => question).find((question) => !study.answers[question]);

function answer(question, choice) {
  if (study.sending) return;
  study.answers[question] = choice;
  showAnswers();
}

function takeBack() {
  const given = QUESTIONS.map(([question]) => question).filter((question) => study.answers[question]);
  if (!given.length || study.sending) return;
  delete study.answers[given.at(-1)];
  showAnswers();
}

async function send() {
  if (open() || study.sending || study.ballot?.place == null) return;
  study.sending = true;
  showAnswers();
  const { rater: name, place } = study.ballot;
  let next = null;
  try {
    next = await call("/votes", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ rater: name, place, ...study.answers }) });
  } catch (error) {
    $("problem").textContent = `${error.message} Your answers are still here: try again.`;
  }
  study.sending = false;
  next ? show(next) : showAnswers();
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || study.ballot?.place == null) return;
  const onButton = event.target.closest?.("button");
  if (ARROWS[event.key]) open() && answer(open(), ARROWS[event.key]);
  else if (event.key === "Backspace") takeBack();
  else if (event.key === "Enter" && !onButton) send();
  else if (event.key === " " && !onButton) play();
  else return;
  event.preventDefault();
});
$("send").onclick = send;
addEventListener("hashchange", () => location.reload());

async function begin() {
  if (!link) return say("This address has no study: the part behind # is missing.");
  const name = rater.get();
  try {
    show(await call(`/next${name ? `?rater=${encodeURIComponent(name)}` : ""}`));
  } catch (error) {
    $("study").setAttribute("aria-busy", "false");
    say(error.status === 404 ? "This study is over, or its address is mistyped." : `${error.message} Reload the page to try again.`);
  }
}

begin();
