// Kiosk mode, `?kiosk` or `?kiosk=SECONDS` of idleness: pictures that drift by until somebody touches, a fresh page for each visitor, no way out.

import * as api from "./api.js";
import { Polaroid, stillness } from "./polaroid.js";
import { send, watch } from "./run.js";
import * as text from "./text.js";

const WARNING_S = 8;
const NEXT_MS = 3800;
/** So many pictures of its own the loop makes; after that it shows them in turn. */
const OWN = 12;
/** So many places to go back to lie before the page that led here. */
const DEPTH = 12;
/** What cannot be reached while the loop runs. */
const BEHIND = "nav, main, .skip";
const find = (id) => document.getElementById(id);
const asked = new URLSearchParams(location.search).get("kiosk");

export const kiosk = asked !== null;
const idleS = Math.max(WARNING_S + 2, Number.parseFloat(asked) || 60);

let touched = performance.now();
let loop = null;
const pool = [];
/** Ideas that have not drifted by yet, so that none is seen twice at once. */
let deck = [];

/** `fresh` is called to make the page as new; `busy` says whether a picture is in work. */
export function start(fresh, busy) {
  document.documentElement.classList.add("kiosk");
  for (const kind of ["pointerdown", "keydown", "input", "wheel"]) {
    window.addEventListener(kind, () => (touched = performance.now()), { capture: true, passive: true });
  }
  document.addEventListener("contextmenu", (event) => event.preventDefault());
  document.addEventListener("dragstart", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => event.preventDefault());
  document.addEventListener("dragover", (event) => event.preventDefault());
  for (const kind of ["gesturestart", "gesturechange"]) document.addEventListener(kind, (event) => event.preventDefault());
  window.addEventListener("wheel", (event) => event.ctrlKey && event.preventDefault(), { passive: false });
  window.addEventListener("keydown", keys, { capture: true });
  // A link that is opened with a key held, or by another button, is opened in a window of its own.
  for (const kind of ["click", "auxclick"]) {
    document.addEventListener(kind, (event) => {
      if ((event.button || event.ctrlKey || event.metaKey || event.shiftKey) && event.target.closest("a")) event.preventDefault();
    }, { capture: true });
  }
  // Going back leads here again, also for whoever goes back faster than the page is told of it.
  const deepen = (from) => {
    for (let depth = from + 1; depth <= DEPTH; depth += 1) history.pushState({ depth }, "", location.href);
  };
  window.addEventListener("popstate", ({ state }) => deepen(state?.depth ?? 0));
  deepen(0);
  find("touch").addEventListener("click", () => {
    touched = performance.now();
    rest();
    find("prompt").focus({ preventScroll: true });
  });
  setInterval(() => {
    if (busy()) touched = performance.now();
    const left = idleS - (performance.now() - touched) / 1000;
    const leaving = find("leaving");
    if (loop) return;
    leaving.hidden = left > WARNING_S;
    if (!leaving.hidden) leaving.textContent = text.t("still_there", { s: Math.max(0, Math.ceil(left)) });
    if (left <= 0) {
      leaving.hidden = true;
      fresh();
      attract();
    }
  }, 500);
  attract();
}

/** Keys that print, save, search, open, close or leave are not the visitor's. */
function keys(event) {
  const letters = /^[a-z0-9+\-=]$/i.test(event.key);
  // With Shift they are the browser's: Ctrl+Shift+C opens its tools.
  const editing = /^[acvxz]$/i.test(event.key) && !event.shiftKey;
  if (((event.ctrlKey || event.metaKey) && letters && !editing) || event.altKey || /^F\d+$/.test(event.key)) event.preventDefault();
}

function rest() {
  loop?.abort();
  loop = null;
  find("attract").hidden = true;
  for (const element of document.querySelectorAll(BEHIND)) element.inert = false;
}

/** Only pictures of the page's own ideas drift by, none that a visitor asked for. */
async function attract() {
  loop = new AbortController();
  const { signal } = loop;
  for (const element of document.querySelectorAll(BEHIND)) element.inert = true;
  find("attract").hidden = false;
  find("touch").focus({ preventScroll: true });
  const drift = find("attract").querySelector(".drift");
  drift.replaceChildren();
  for (let turn = 0; !signal.aborted; turn += 1) {
    try {
      await appear(drift, turn, signal);
    } catch (error) {
      if (signal.aborted) return;
      // The server may be on its way up: a kiosk waits for it.
      console.info(error.message);
    }
    await new Promise((resolve) => setTimeout(resolve, NEXT_MS));
  }
}

async function appear(drift, turn, signal) {
  const figure = document.createElement("figure");
  figure.className = `float p${turn % 4}`;
  const polaroid = new Polaroid(figure);
  const place = () => {
    drift.append(figure);
    while (drift.childElementCount > 4) drift.firstElementChild.remove();
  };
  if (pool.length >= OWN) {
    const one = pool[turn % pool.length];
    place();
    polaroid.begin(one.label());
    await polaroid.finish(one.blob, one.label());
    return;
  }
  if (!deck.length) deck = text.ideas().map((_, one) => [Math.random(), one]).sort((a, b) => a[0] - b[0]).map(([, one]) => one);
  const index = deck.pop();
  const label = () => text.ideas()[index].label;
  const job = await send({ prompt: text.ideas()[index].prompt }, () => {}, signal);
  if (!job) return;
  // A visitor who came in the meantime does not wait for it.
  if (signal.aborted) return api.cancel(job.id).catch(() => {});
  place();
  polaroid.begin(label());
  const ended = await watch(job.id, { queued() {}, step() {}, preview: (blob, share) => polaroid.preview(blob, share) }, signal);
  if (ended?.state !== "finished") {
    figure.remove();
    if (!ended) await api.cancel(job.id).catch(() => {});
    return;
  }
  const blob = await api.picture(job.id, 0);
  pool.push({ blob, label });
  if (!stillness.matches) await new Promise((resolve) => setTimeout(resolve, 300));
  await polaroid.finish(blob, label());
}
