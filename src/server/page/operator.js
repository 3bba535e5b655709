// The operator's view: whether the server is ready, its queue, the device's heat and memory, what was made and how long it took.

import * as api from "./api.js";
import { read } from "./run.js";
import { bytes, number, seconds, t, time } from "./text.js";

const EVERY_MS = 2000;
const HISTORY = 60;
const find = (id) => document.getElementById(id);
/** The polling that goes on; one that another overtook ends. */
let polling = null;
const history = { queue: [], memory: [], temperature: [] };

export function show() {
  const mine = {};
  polling = mine;
  const turn = async () => {
    if (polling !== mine) return;
    await refresh();
    setTimeout(turn, EVERY_MS);
  };
  turn();
}

export function leave() {
  polling = null;
}

const make = (tag, words = "", className = "") => Object.assign(document.createElement(tag), { textContent: words, className });

async function refresh() {
  const view = find("operator");
  try {
    const [state, list] = await Promise.all([api.status(), api.jobs(20)]);
    const jobs = list.map(read);
    view.replaceChildren(head(state), tiles(state, jobs), table(jobs));
  } catch (error) {
    view.replaceChildren(make("h1", t("op_not_ready"), "wrong"), make("p", error.code === "offline" ? t("offline") : error.message));
  }
}

function head(state) {
  const row = make("header");
  const ready = !state.not_ready && !state.draining;
  row.append(make("h1", t("operator")), make("span", t(ready ? "op_ready" : "op_not_ready"), ready ? "pill good" : "pill bad"));
  if (state.not_ready) row.append(make("span", state.not_ready, "soft"));
  const up = state.uptime_s ? time(Date.now() - 1000 * state.uptime_s) : null;
  row.append(make("span", [state.version && `Kiln ${state.version}`, up && `${t("op_uptime")} ${up}`].filter(Boolean).join(" · "), "soft end"));
  return row;
}

/** Sensors and their degrees, the hottest first. */
function heats(state) {
  return (state.temperatures ?? []).map((one) => [one.name, one.celsius]).sort((a, b) => b[1] - a[1]);
}

function tiles(state, jobs) {
  const grid = make("div", "", "tiles");
  const queue = state.queue?.waiting ?? 0;
  const limit = state.queue?.most;
  const running = state.queue?.running;
  const memory = state.memory?.resident_bytes;
  const disk = state.free_disk_bytes;
  const hot = heats(state);
  const took = jobs.map((job) => job.tookS).filter((s) => s !== null).reverse();
  push(history.queue, queue);
  if (memory) push(history.memory, memory);
  if (hot.length) push(history.temperature, hot[0][1]);
  grid.append(tile(t("op_queue"), number(queue), limit ? `/ ${limit}` : "", history.queue, limit));
  if (running !== undefined) grid.append(tile(t("op_running"), number(Number(running)), ""));
  const sorted = [...took].sort((a, b) => a - b);
  grid.append(tile(t("op_speed"), sorted.length ? seconds(sorted[Math.floor(sorted.length / 2)]) : t("none"), "", took));
  if (memory) grid.append(tile(t("op_memory"), bytes(memory), "", history.memory));
  if (hot.length) grid.append(tile(t("op_temperature"), `${number(hot[0][1])} °C`, hot[0][0], history.temperature, 100));
  if (disk) grid.append(tile(t("op_disk"), bytes(disk), ""));
  return grid;
}

function push(list, value) {
  list.push(value);
  if (list.length > HISTORY) list.shift();
}

function tile(title, value, beside, line, most) {
  const box = make("div", "", "tile");
  const row = make("p", "", "value");
  row.append(make("b", value), make("small", beside));
  box.append(make("h2", title), row);
  if (line && line.length > 1) box.append(spark(line, most));
  return box;
}

function spark(values, most) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 30");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const highest = Math.max(most ?? 0, ...values) || 1;
  const points = values.map((value, i) => `${((100 * i) / (values.length - 1)).toFixed(2)},${(28 - (26 * value) / highest).toFixed(2)}`);
  for (const [tag, d] of [["area", `M0,30L${points.join("L")}L100,30Z`], ["edge", `M${points.join("L")}`]]) {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("class", tag);
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}

function table(jobs) {
  const box = make("div", "", "table");
  const grid = make("table");
  grid.append(make("caption", t("op_jobs")));
  const top = make("tr");
  for (const key of ["col_time", "col_prompt", "model", "col_state", "col_took"]) {
    const cell = make("th", t(key));
    cell.scope = "col";
    top.append(cell);
  }
  grid.createTHead().append(top);
  const rows = grid.createTBody();
  for (const job of jobs) {
    const row = make("tr");
    const state = make("td");
    state.append(make("span", t(`state_${job.state}`), `pill ${job.state}`));
    row.append(make("td", job.madeMs ? time(job.madeMs) : t("none")), make("td", job.prompt || t("none"), "grow"), make("td", job.model), state,
      make("td", job.tookS === null ? t("none") : seconds(job.tookS)));
    if (job.error?.message) row.title = job.error.message;
    rows.append(row);
  }
  box.append(grid);
  return box;
}
