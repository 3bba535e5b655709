// The questions: prompt, ideas, styles, time, model, seed; and the wish that they make.

import * as api from "./api.js";
import * as text from "./text.js";
import { t } from "./text.js";

const TIMES_S = [0.5, 1, 1.5, 2, 3, 5, 10];
export const KEPT = "kiln.form";
const ROWS = ["ideas", "styles", "colours"];
const find = (id) => document.getElementById(id);

let models = [];
let chosen = new Map();
let idea = null;
let locked = null;
let planning = null;

export const model = () => models.find((found) => found.name === find("model").value) ?? models[0] ?? null;
export const seedLocked = () => locked !== null;

export async function start() {
  // The page hands in no picture.
  models = (await api.bundles()).filter((found) => !found.needs_picture);
  find("model").replaceChildren(...models.map((found) => new Option(found.name, found.name)));
  find("model").closest("label").hidden = models.length < 2;
  const kept = sessionStorage.getItem(KEPT);
  reset();
  restore(kept);
  find("prompt").addEventListener("input", () => {
    idea = null;
    changed();
  });
  find("clear").addEventListener("click", () => {
    write("", null);
    find("prompt").focus();
  });
  find("surprise").addEventListener("click", surprise);
  find("model").addEventListener("change", () => {
    chosen.clear();
    if (kinds().length !== 0 || idea?.kind) write("", null);
    fill();
    changed();
  });
  find("time").addEventListener("input", changed);
  for (const id of ROWS) find(id).addEventListener("keydown", step);
  find("lock").addEventListener("click", () => lock(locked === null ? shown : null));
  document.addEventListener("kiln:language", () => {
    fill();
    changed();
  });
  fill();
  changed();
}

export function reset() {
  chosen = new Map();
  const usual = models.find((found) => found.default) ?? models.find((found) => found.name === "sticker") ?? models[0];
  if (usual) find("model").value = usual.name;
  find("time").value = "3";
  write("", null);
  lock(null);
  fill();
}

/** The seed of the picture that is on the stage, which the lock would keep. */
let shown = null;
export function showSeed(seed) {
  shown = seed;
  if (locked === null) lock(null);
}

export function lock(seed) {
  locked = seed;
  const button = find("lock");
  button.setAttribute("aria-pressed", String(seed !== null));
  button.disabled = seed === null && shown === null;
  button.title = t(seed === null ? "seed_lock" : "seed_unlock");
  button.querySelector("use").setAttribute("href", seed === null ? "#icon-unlock" : "#icon-lock");
  find("seed").textContent = seed ?? shown ?? t("seed_new");
  keep();
}

/** Puts an earlier job's answers back. */
export function use(job, seed) {
  chosen.clear();
  if (models.some((found) => found.name === job.model)) find("model").value = job.model;
  write(job.prompt, null);
  showSeed(seed);
  lock(seed);
  fill();
  changed();
}

/** The seconds that the person has. */
export const haveS = () => TIMES_S[Number(find("time").value)];

/** The body of a job, and the words under its picture. */
export function wish() {
  const typed = find("prompt").value.trim();
  const plain = idea && typed === idea.label ? idea.prompt : text.inEnglish(typed || (kinds().length ? "" : t("placeholder")));
  const out = { prompt: styled(plain, [...chosen.values()]), within_s: haveS() };
  if (model()) out.model = model().name;
  if (locked !== null) out.seed = locked;
  return { wish: out, words: typed || (kinds().length ? out.model : t("placeholder")) };
}

/** Wishes like `base`, each in another style where the model has styles, from other seeds. */
export function others(base, count) {
  const found = text.styles(model()?.name).filter((style) => style.word !== "glossy" && chosen.get(style.group)?.en !== style.en);
  const plain = kinds().length ? [] : shuffled(found);
  return Array.from({ length: count }, (_, i) => {
    const picked = new Map(chosen);
    if (plain[i]) picked.set(plain[i].group, plain[i]);
    const typed = find("prompt").value.trim();
    const words = idea && typed === idea.label ? idea.prompt : text.inEnglish(typed || t("placeholder"));
    return { ...base, seed: Math.floor(Math.random() * 2 ** 31), prompt: plain[i] ? styled(words, [...picked.values()]) : base.prompt };
  });
}

export function surprise() {
  const kinded = kinds();
  const list = kinded.length ? kinded.map((kind) => ({ label: kind, prompt: kind, kind: true })) : text.ideas();
  const others = list.filter((one) => one.prompt !== idea?.prompt);
  const one = others[Math.floor(Math.random() * others.length)];
  if (!kinded.length) {
    chosen.clear();
    const styles = text.styles(model()?.name).filter((style) => style.group === "style");
    if (Math.random() < 0.3 && styles.length) chosen.set("style", styles[Math.floor(Math.random() * styles.length)]);
  }
  write(one.label, one);
  fill();
  const button = find("surprise");
  button.classList.remove("rolled");
  requestAnimationFrame(() => button.classList.add("rolled"));
}

/** What a model that knows kinds instead of words was trained on. */
function kinds() {
  return model()?.classes ?? [];
}

function write(words, from) {
  idea = from;
  find("prompt").value = words;
  changed();
}

/** "a cat" and blue and flat make "a flat blue cat"; what a style writes after goes to the end. */
function styled(prompt, styles) {
  const order = { style: 0, colour: 1 };
  const words = styles.filter((style) => style.word && style.word !== "glossy").sort((a, b) => order[a.group] - order[b.group]).map((style) => style.word);
  const after = styles.filter((style) => style.after).map((style) => style.after);
  let out = prompt;
  if (words.length) {
    const [, lead, rest] = /^((?:an?|the|one|two|three|four)\s+)?(.*)$/i.exec(prompt);
    // A colour that is asked for twice would be mixed.
    const swatches = text.styles(model()?.name).filter((style) => style.group === "colour").map((style) => style.word);
    const hasColour = styles.some((style) => style.group === "colour");
    const bare = hasColour ? rest.split(" ").filter((word) => !swatches.includes(word.toLowerCase())).join(" ") : rest;
    // Another word stands behind the article now.
    const article = /^an?\s/i.test(lead ?? "") ? (/^[aeiou]/i.test(words[0]) ? "an " : "a ") : lead ?? "";
    out = `${article}${words.join(" ")} ${bare}`;
  }
  return [out, ...after].filter(Boolean).join(", ");
}

function fill() {
  document.dispatchEvent(new CustomEvent("kiln:model"));
  const kinded = kinds();
  const list = kinded.length ? kinded.map((kind) => ({ label: kind, prompt: kind, kind: true })) : text.ideas();
  find("ideas").replaceChildren(...list.map((one) => chip(one.label, () => write(one.label, one))));
  const styles = kinded.length ? [] : text.styles(model()?.name);
  for (const [id, group] of [["styles", "style"], ["colours", "colour"]]) {
    find(id).replaceChildren(...styles.filter((style) => style.group === group).map((style) => {
      const picked = chosen.get(group)?.en === style.en;
      const button = chip(style.swatch ? "" : style.label, () => {
        if (picked) chosen.delete(group);
        else chosen.set(group, style);
        fill();
        changed();
        find(id).querySelector(`[data-name="${style.en}"]`)?.focus();
      });
      button.dataset.name = style.en;
      button.setAttribute("aria-pressed", String(picked));
      if (style.swatch) {
        button.style.setProperty("--swatch", style.swatch);
        button.setAttribute("aria-label", style.label);
        button.title = style.label;
      }
      return button;
    }));
  }
  for (const id of ROWS) rove(find(id));
}

/** Of a row of chips one is a stop for the tabulator; arrows go on from there. */
function rove(row) {
  const chips = [...row.children];
  const stop = chips.find((one) => one.getAttribute("aria-pressed") === "true") ?? chips[0];
  for (const one of chips) one.tabIndex = one === stop ? 0 : -1;
  row.classList.toggle("long", row.scrollWidth > row.clientWidth);
}

function step(event) {
  const chips = [...event.currentTarget.children];
  const at = chips.indexOf(document.activeElement);
  const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: chips.length - 1 }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  const next = chips[(to + chips.length) % chips.length];
  for (const one of chips) one.tabIndex = one === next ? 0 : -1;
  next.focus();
}

function chip(label, act) {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: label });
  button.addEventListener("click", act);
  return button;
}

function changed() {
  const slider = find("time");
  slider.style.setProperty("--value", String(Number(slider.value) / (TIMES_S.length - 1)));
  const have = text.seconds(haveS());
  find("have").textContent = have;
  slider.setAttribute("aria-valuetext", have);
  const typed = find("prompt").value.trim();
  find("clear").hidden = !typed;
  const translated = idea?.label === typed ? typed : text.inEnglish(typed);
  find("read").textContent = translated === typed ? "" : t("read_as", { prompt: translated });
  keep();
  clearTimeout(planning);
  planning = setTimeout(plan, 180);
}

let asked = null;
async function plan() {
  asked?.abort();
  asked = new AbortController();
  const line = find("plan");
  try {
    const answer = await api.plan(wish().wish, asked.signal);
    // What was measured of earlier jobs is truer than the forecast.
    const expected = answer.expected_time_s ?? answer.forecast_time_s;
    if (!expected) {
      line.textContent = "";
      return;
    }
    const time = text.seconds(expected);
    const guess = answer.measured === false ? "_guess" : "";
    line.textContent = t(answer.steps === 1 ? `plan${guess}_one` : `plan${guess}`, { steps: answer.steps ?? "", time });
    line.classList.remove("wrong");
    line.title = "";
  } catch (error) {
    if (error.name === "AbortError") return;
    const short = error.status === 422 || error.status === 400;
    line.textContent = error.code === "policy" ? t("policy") : short ? t("plan_short") : "";
    line.title = short ? error.message : "";
    line.classList.toggle("wrong", short);
  }
}

function keep() {
  sessionStorage.setItem(KEPT, JSON.stringify({ prompt: find("prompt").value, model: find("model").value, time: find("time").value, locked }));
}

function restore(written) {
  try {
    const kept = JSON.parse(written);
    if (!kept) return;
    if (models.some((found) => found.name === kept.model)) find("model").value = kept.model;
    find("time").value = kept.time;
    find("prompt").value = kept.prompt;
    const same = text.ideas().find((one) => one.label === kept.prompt);
    idea = same ?? null;
    lock(kept.locked);
  } catch {
    // What an older page kept is not worth an error.
  }
}

function shuffled(list) {
  return list.map((one) => [Math.random(), one]).sort((a, b) => a[0] - b[0]).map(([, one]) => one);
}
