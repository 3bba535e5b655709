// The view in which pictures are made: sends what the form says, and lets the picture develop.

import * as api from "./api.js";
import * as form from "./form.js";
import { Polaroid, enlarge } from "./polaroid.js";
import { download, recipe } from "./print.js";
import { ENDED, read, send, watch } from "./run.js";
import { seconds, t } from "./text.js";

const KEPT = "kiln.job";
const find = (id) => document.getElementById(id);
const stage = find("stage");

/** The jobs in work: `asking` stops asking the server to take them, `abort` stops waiting for those that it took. */
let working = null;
/** The picture on the stage: its file, job and place in the job. */
let held = null;
/** What was made since the page was opened or reset, the youngest first. */
export let visit = [];
let polaroid = null;
let others = [];

export async function start() {
  polaroid = new Polaroid(find("polaroid"));
  blank();
  find("form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (working) stop();
    else make();
  });
  find("actions").addEventListener("click", ({ target }) => act(target.closest("[data-action]")?.dataset.action));
  find("polaroid").addEventListener("click", () => held && polaroid.turnOver());
  document.addEventListener("kiln:model", buttons);
  document.addEventListener("kiln:language", () => {
    buttons();
    if (held) recipe(polaroid, held.job, held.index);
    else if (!working) blank();
  });
  buttons();
  await resume();
}

export const busy = () => working !== null;

function blank() {
  polaroid.clear();
  polaroid.caption(t("blank"));
  polaroid.describe(t("blank"));
}

function say(words, wrong = false) {
  find("status").textContent = words;
  find("status").classList.toggle("wrong", wrong);
}

function buttons() {
  find("go-text").textContent = t(working ? "stop" : form.model()?.clip ? "go_clip" : "go");
  find("go").classList.toggle("stop", working !== null);
  find("go").querySelector("svg use").setAttribute("href", working ? "#icon-clear" : "#icon-flame");
  stage.classList.toggle("working", working !== null);
  stage.setAttribute("aria-busy", String(working !== null));
  find("actions").hidden = working !== null || !held;
}

function begin(words) {
  working = { asking: new AbortController(), abort: new AbortController(), id: null, words };
  held = null;
  stage.style.setProperty("--share", "0");
  say(t("starting"));
  polaroid.begin(words);
  buttons();
  return working;
}

function end(mine) {
  if (working !== mine) return;
  working = null;
  sessionStorage.removeItem(KEPT);
  buttons();
}

async function make() {
  clearOthers();
  const { wish, words } = form.wish();
  const mine = begin(words);
  await carried(mine, async () => {
    const job = await send(wish, (wait) => say(t("full", { time: seconds(wait) })), mine.asking.signal);
    if (job) await develop(mine, job.id);
    // It was stopped before the server took it: no end of it is heard of.
    else if (working === mine) {
      blank();
      say(t("cancelled"));
    }
  });
}

/** Follows a job onto the stage. */
async function develop(mine, id) {
  mine.id = id;
  sessionStorage.setItem(KEPT, JSON.stringify({ id, words: mine.words }));
  if (mine.stopped) await api.cancel(id);
  const job = await watch(id, seen(mine), mine.abort.signal);
  if (!job || working !== mine) return;
  await ended(mine, job);
}

function seen(mine) {
  return {
    queued: (place, waitS) => working === mine && say(t(waitS ? "queued_wait" : "queued", { place, time: seconds(waitS ?? 0) })),
    step: (step, steps, leftS) => {
      if (working !== mine || mine.stopped) return;
      stage.style.setProperty("--share", String(step / steps));
      say(leftS > 0.5 ? t("step_left", { step, steps, time: seconds(leftS) }) : t("step", { step, steps }));
    },
    preview: (blob, share) => working === mine && polaroid.preview(blob, share),
  };
}

async function ended(mine, job) {
  if (job.state === "finished") {
    const blob = await api.picture(job.id, 0);
    if (working !== mine) return;
    const words = t("made", { prompt: mine.words, time: seconds(job.tookS ?? 0) });
    stage.style.setProperty("--share", "1");
    await polaroid.finish(blob, words);
    if (working !== mine) return;
    hold(blob, job, 0);
    visit.unshift(job);
    say(job.tookS === null ? words : t("done", { time: seconds(job.tookS) }));
    document.dispatchEvent(new CustomEvent("kiln:made"));
  } else if (job.state === "cancelled") {
    blank();
    say(t("cancelled"));
  } else {
    blank();
    wrong({ code: job.error?.code, message: job.error?.message ?? t(`state_${job.state}`) });
  }
}

function hold(blob, job, index) {
  held = { blob, job, index };
  recipe(polaroid, job, index);
  form.showSeed(job.pictures[index]?.seed ?? null);
}

function wrong(error) {
  const known = { policy: "policy", offline: "unreachable" }[error.code];
  say(known ? t(known) : t("failed", { message: error.message }), true);
}

/** Runs `work`, and shows what went wrong in it. */
async function carried(mine, work) {
  try {
    await work();
  } catch (error) {
    if (working === mine) {
      blank();
      if (error.status === 401) document.dispatchEvent(new CustomEvent("kiln:token"));
      wrong(error);
    }
  } finally {
    end(mine);
  }
}

export async function stop() {
  const mine = working;
  if (!mine || mine.stopped) return;
  mine.stopped = true;
  say(t("stopping"));
  const ids = mine.ids ?? (mine.id ? [mine.id] : []);
  mine.asking.abort();
  try {
    await Promise.all(ids.map((id) => api.cancel(id)));
  } catch (error) {
    // It may have ended in the meantime; its end is on its way.
    if (error.code === "offline") wrong(error);
  }
}

/** What was in work when the page was loaded anew. */
function left() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT));
  } catch {
    return null;
  }
}

/** Stops the job that was in work before a reload, and forgets it. */
export function forget() {
  const id = left()?.id;
  sessionStorage.removeItem(KEPT);
  // It may have ended in the meantime.
  if (id) api.cancel(id).catch(() => {});
}

/** After a reload: the job that was in work goes on, one that ended is shown. */
async function resume() {
  const kept = left();
  if (!kept?.id) return;
  const mine = begin(kept.words);
  // The rest of the page does not wait for it.
  carried(mine, async () => {
    const job = read(await api.job(kept.id));
    if (ENDED.includes(job.state)) await ended(mine, job);
    else await develop(mine, kept.id);
  });
}

export function reset() {
  working?.abort.abort();
  if (working) stop();
  working = null;
  sessionStorage.removeItem(KEPT);
  held = null;
  visit = [];
  clearOthers();
  form.showSeed(null);
  form.reset();
  blank();
  say("");
  buttons();
}

function act(action) {
  if (!held) return;
  if (action === "turn") polaroid.turnOver();
  else if (action === "download") download(held.blob, held.job, held.index);
  else if (action === "print") {
    polaroid.turnOver(false);
    window.print();
  } else if (action === "others") makeOthers();
}

function clearOthers() {
  others = [];
  find("strip").replaceChildren();
  find("strip").hidden = true;
}

/** Four jobs like the last, each in another style or from another seed; each is put on the stage when it is touched. */
async function makeOthers() {
  const base = { ...held.job.wish };
  for (const key of Object.keys(base)) if (base[key] === null) delete base[key];
  const first = held;
  clearOthers();
  const { words } = form.wish();
  const mine = { asking: new AbortController(), abort: new AbortController(), ids: [], words };
  working = mine;
  buttons();
  const strip = find("strip");
  strip.hidden = false;
  let ready = 0;
  others = form.others(base, 4).map((wish) => {
    const button = Object.assign(document.createElement("button"), { type: "button", disabled: true });
    button.setAttribute("aria-label", wish.prompt);
    button.setAttribute("aria-pressed", "false");
    const canvas = Object.assign(document.createElement("canvas"), { width: 160, height: 160 });
    button.append(canvas);
    strip.append(button);
    return { wish, button, canvas };
  });
  stage.style.setProperty("--share", "0");
  const paint = async (canvas, blob) => enlarge(canvas, await createImageBitmap(blob));
  await carried(mine, async () => {
    await Promise.all(others.map(async (other) => {
      const job = await send(other.wish, (wait) => say(t("full", { time: seconds(wait) })), mine.asking.signal);
      if (!job) return;
      mine.ids.push(job.id);
      if (mine.stopped) await api.cancel(job.id);
      const end = await watch(job.id, { queued() {}, step() {}, preview: (blob) => paint(other.canvas, blob) }, mine.abort.signal);
      if (end?.state !== "finished" || working !== mine) return;
      const blob = await api.picture(end.id, 0);
      await paint(other.canvas, blob);
      ready += 1;
      stage.style.setProperty("--share", String(ready / others.length));
      say(`${ready} / ${others.length}`);
      visit.unshift(end);
      other.button.classList.add("ready");
      other.button.disabled = false;
      other.button.addEventListener("click", () => {
        for (const one of others) one.button.setAttribute("aria-pressed", String(one === other));
        polaroid.show(blob, end.prompt);
        hold(blob, end, 0);
        buttons();
      });
    }));
    if (working === mine) {
      say(mine.stopped ? t("cancelled") : "");
      document.dispatchEvent(new CustomEvent("kiln:made"));
    }
  });
  held ??= first;
  buttons();
}
