// The family tree: every method below those that it grew from; what is installed can be tried in place.

import * as api from "./api.js";
import { Polaroid, stillness } from "./polaroid.js";
import { recipe } from "./print.js";
import { send, watch } from "./run.js";
import { seconds, t } from "./text.js";

const CARD = { width: 168, height: 56, across: 20, down: 34, edge: 22 };
const find = (id) => document.getElementById(id);
let nodes = null;
let chosen = null;
let bundles = new Set();
let trying = null;

export async function show(models) {
  bundles = new Set(models);
  if (!nodes) {
    const answer = await api.lineage();
    const branches = new Map((answer.branches ?? []).map((branch, index) => [branch.name, { ...branch, index }]));
    nodes = placed((answer.algorithms ?? answer.nodes ?? answer).map(known), branches);
    document.addEventListener("kiln:language", () => {
      find("tree").dataset.drawn = "";
      if (!find("tree").hidden) draw();
    });
  }
  draw();
}

export function leave() {
  trying?.abort();
  trying = null;
}

/** Lets go of the method that is looked at. */
export function reset() {
  leave();
  chosen = null;
  find("canvas").replaceChildren();
  find("story").replaceChildren();
}

/** A node whose story is text or paragraphs, and whose runs name bundles. */
function known(node) {
  const story = Array.isArray(node.story) ? node.story : String(node.story ?? "").split(/\n\s*\n/);
  return { ...node, story, parents: node.parents ?? [], runs: node.runs ?? [] };
}

/** Gives each node its column, that of its branch, and its row: below its parents and below what is in the column. */
function placed(list, branches) {
  const columns = new Map();
  const rows = new Map();
  const order = [...new Set(list.map((node) => node.branch))];
  for (const node of [...list].sort((a, b) => a.year - b.year)) {
    const branch = branches.get(node.branch);
    node.column = branch?.column ?? order.indexOf(node.branch);
    node.colour = branch?.index ?? order.indexOf(node.branch);
    node.family = branch?.title ?? node.branch;
    node.row = Math.max(-1, columns.get(node.column) ?? -1, ...node.parents.map((name) => rows.get(name) ?? -1)) + 1;
    columns.set(node.column, node.row);
    rows.set(node.name, node.row);
  }
  return list;
}

const left = (node) => CARD.edge + node.column * (CARD.width + CARD.across);
const top = (node) => CARD.edge + node.row * (CARD.height + CARD.down);
const runnable = (node) => node.runs.find((run) => bundles.has(run.bundle ?? run.model));

function draw() {
  const canvas = find("canvas");
  const width = Math.max(...nodes.map(left)) + CARD.width + CARD.edge;
  const height = Math.max(...nodes.map(top)) + CARD.height + CARD.edge;
  const map = document.createElement("div");
  map.className = "map";
  map.style.width = `${width}px`;
  map.style.height = `${height}px`;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("aria-hidden", "true");
  const byName = new Map(nodes.map((node) => [node.name, node]));
  for (const node of nodes) {
    node.parents.forEach((name, i) => {
      const parent = byName.get(name);
      if (!parent) return;
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      const [x1, y1, x2, y2] = [left(parent) + CARD.width / 2, top(parent) + CARD.height, left(node) + CARD.width / 2, top(node)];
      const bend = Math.min(60, (y2 - y1) / 2 + 8);
      path.setAttribute("d", `M${x1} ${y1}C${x1} ${y1 + bend} ${x2} ${y2 - bend} ${x2} ${y2}`);
      path.setAttribute("class", `c${parent.colour % 8}${i ? " second" : ""}`);
      path.dataset.from = name;
      path.dataset.to = node.name;
      svg.append(path);
    });
  }
  map.append(svg);
  for (const node of [...nodes].sort((a, b) => a.row - b.row || a.column - b.column)) {
    const card = Object.assign(document.createElement("button"), { type: "button", className: `node c${node.colour % 8}` });
    card.style.left = `${left(node)}px`;
    card.style.top = `${top(node)}px`;
    card.dataset.name = node.name;
    card.classList.toggle("runs", Boolean(runnable(node)));
    card.append(Object.assign(document.createElement("b"), { textContent: node.title }), Object.assign(document.createElement("small"), { textContent: node.year }));
    if (runnable(node)) card.append(Object.assign(document.createElement("span"), { className: "hidden-words", textContent: t("installed") }));
    card.addEventListener("click", () => choose(node.name));
    map.append(card);
  }
  const at = [canvas.scrollLeft, canvas.scrollTop];
  canvas.replaceChildren(map);
  canvas.scrollTo(...at);
  if (chosen) choose(chosen, false);
  else hint();
}

function hint() {
  const colours = new Map(nodes.map((node) => [node.family, node.colour]));
  const key = Object.assign(document.createElement("ul"), { className: "key" });
  for (const [family, colour] of colours) key.append(Object.assign(document.createElement("li"), { textContent: family, className: `c${colour % 8}`, lang: "en" }));
  const words = Object.assign(document.createElement("p"), { textContent: t("tree_hint") });
  find("story").replaceChildren(Object.assign(document.createElement("h1"), { textContent: t("tree") }), words, key);
}

/** All that a node descends from, or all that descends from it. */
function kin(name, next) {
  const found = new Set();
  const open = [name];
  while (open.length) {
    for (const other of next(open.pop())) {
      if (!found.has(other)) {
        found.add(other);
        open.push(other);
      }
    }
  }
  return found;
}

function choose(name, move = true) {
  leave();
  chosen = name;
  const node = nodes.find((one) => one.name === name);
  const children = (of) => nodes.filter((one) => one.parents.includes(of)).map((one) => one.name);
  const above = kin(name, (of) => nodes.find((one) => one.name === of)?.parents ?? []);
  const below = kin(name, children);
  const related = new Set([name, ...above, ...below]);
  const map = find("canvas").firstElementChild;
  map.classList.add("focused");
  for (const card of map.querySelectorAll(".node")) {
    card.classList.toggle("related", related.has(card.dataset.name));
    card.setAttribute("aria-pressed", String(card.dataset.name === name));
    if (card.dataset.name === name && move) card.scrollIntoView({ block: "center", inline: "center", behavior: stillness.matches ? "auto" : "smooth" });
  }
  for (const path of map.querySelectorAll("path")) {
    const { from, to } = path.dataset;
    path.classList.toggle("related", (above.has(from) && (to === name || above.has(to))) || ((from === name || below.has(from)) && below.has(to)));
  }
  tell(node, children(name));
}

function tell(node, children) {
  const element = (tag, words, className = "") => Object.assign(document.createElement(tag), { textContent: words, className });
  const story = find("story");
  // The tree is told in English.
  const english = (...given) => Object.assign(element(...given), { lang: "en" });
  const parts = [english("p", `${node.family} · ${node.year}`, `family c${node.colour % 8}`), english("h1", node.title), english("p", node.changed ?? "", "changed")];
  const run = runnable(node);
  if (run) {
    const row = element("div", "", "trial");
    const figure = element("figure", "");
    const button = element("button", t("try"), "primary");
    button.type = "button";
    const line = element("p", "", "line");
    line.setAttribute("role", "status");
    figure.hidden = true;
    row.append(figure, button, line);
    button.addEventListener("click", () => attempt(run, node, figure, button, line));
    parts.push(row);
  } else parts.push(element("p", t("told"), "told"));
  if (node.formula) parts.push(element("p", node.formula, "formula"));
  parts.push(...node.story.map((words) => english("p", words)));
  for (const [title, names] of [["from", node.parents], ["led", children]]) {
    if (!names.length) continue;
    const row = element("div", "", "chips kin");
    for (const name of names) {
      const other = nodes.find((one) => one.name === name);
      const button = element("button", other?.title ?? name, `c${(other?.colour ?? 0) % 8}`);
      button.type = "button";
      button.addEventListener("click", () => choose(name));
      row.append(button);
    }
    parts.push(element("h2", t(title)), row);
  }
  if (node.calls) parts.push(element("p", `${t("calls")}: ${node.calls}`, "paper"));
  const { paper } = node;
  if (paper) parts.push(element("p", [paper.authors, paper.title, paper.venue, paper.arxiv && `arXiv:${paper.arxiv}`, paper.doi && `doi:${paper.doi}`].filter(Boolean).join(". "), "paper"));
  story.replaceChildren(...parts);
  story.scrollTop = 0;
}

/** Runs the method where it stands, and lets its picture develop. */
async function attempt(run, node, figure, button, line) {
  leave();
  trying = new AbortController();
  const mine = trying;
  const bundle = run.bundle ?? run.model;
  const wish = { prompt: bundle === "sticker" ? "a smiling sun" : "", model: bundle };
  for (const key of ["steps", "sampler", "truncation"]) if (run[key] !== undefined && run[key] !== null) wish[key] = run[key];
  figure.hidden = false;
  figure.polaroid ??= new Polaroid(figure);
  const polaroid = figure.polaroid;
  polaroid.begin(node.title);
  button.disabled = true;
  line.textContent = t("trying");
  try {
    const sent = await send(wish, (wait) => (line.textContent = t("full", { time: seconds(wait) })), mine.signal);
    if (!sent) return;
    const job = await watch(sent.id, {
      queued: (place) => (line.textContent = t("queued", { place })),
      step: (step, steps) => (line.textContent = t("step", { step, steps })),
      preview: (blob, share) => polaroid.preview(blob, share),
    }, mine.signal);
    if (!job) {
      // Whoever turns to another method waits for this one no longer.
      await api.cancel(sent.id).catch(() => {});
      return;
    }
    if (job.state !== "finished") throw new Error(job.error?.message ?? t(`state_${job.state}`));
    await polaroid.finish(await api.picture(job.id, 0), t("made", { prompt: node.title, time: seconds(job.tookS ?? 0) }));
    recipe(polaroid, job, 0);
    figure.onclick = () => polaroid.turnOver();
    line.textContent = job.tookS === null ? "" : t("done", { time: seconds(job.tookS) });
    document.dispatchEvent(new CustomEvent("kiln:made"));
  } catch (error) {
    if (!mine.signal.aborted) line.textContent = error.code === "policy" ? t("policy") : t("failed", { message: error.message });
  } finally {
    button.disabled = false;
  }
}
