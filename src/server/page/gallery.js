// The pictures that were made, the youngest first, and one of them enlarged.

import * as api from "./api.js";
import { Polaroid, enlarge } from "./polaroid.js";
import { download, recipe } from "./print.js";
import { read } from "./run.js";
import { t } from "./text.js";

const PAGE = 24;
const find = (id) => document.getElementById(id);
/** The list that is filled, its `last` job, and whether more of it is on its way; an answer that a newer list overtook is dropped. */
let list = null;
let open = null;
/** The touch that a picture is being opened for; one that another overtook opens nothing. */
let touch = null;
let polaroid = null;
let only = null;

/** `again` is called with a job and the seed of its picture; `visit`, where given, gives the only jobs that are shown. */
export function start(again, visit) {
  only = visit;
  polaroid = new Polaroid(find("print"));
  find("more").addEventListener("click", () => page());
  find("viewer").addEventListener("click", ({ target }) => {
    if (target === find("viewer")) close();
    else if (target.closest(".polaroid")) polaroid.turnOver();
    else act(target.closest("[data-action]")?.dataset.action, again);
  });
  find("viewer").addEventListener("close", () => {
    document.body.classList.remove("viewing");
    open?.button.focus();
    open = null;
  });
}

export async function show() {
  list = { last: null, busy: false };
  find("prints").replaceChildren();
  await page();
}

/** Closes the viewer, also to a picture that is still on its way. */
export function close() {
  touch = null;
  if (find("viewer").open) find("viewer").close();
}

async function page() {
  const mine = list;
  if (mine.busy) return;
  mine.busy = true;
  const found = only ? only() : (await api.jobs(PAGE, mine.last).finally(() => (mine.busy = false))).map(read);
  if (mine !== list) return;
  mine.last = found.at(-1)?.number ?? mine.last;
  find("more").hidden = only !== null || found.length < PAGE;
  for (const job of found.filter((one) => one.state === "finished")) {
    for (const { index } of job.pictures) find("prints").append(print(job, index));
  }
  emptiness();
}

/** Says that there is nothing, where there is nothing. */
function emptiness() {
  find("empty").hidden = find("prints").childElementCount > 0 || !find("more").hidden;
}

function print(job, index) {
  const item = document.createElement("li");
  item.dataset.job = job.id;
  const button = Object.assign(document.createElement("button"), { type: "button", className: "mini" });
  const canvas = Object.assign(document.createElement("canvas"), { width: 256, height: 256 });
  const words = Object.assign(document.createElement("span"), { textContent: job.prompt || job.model });
  button.append(canvas, words);
  item.append(button);
  const file = api.picture(job.id, index);
  file.then(async (blob) => {
    const { colour } = enlarge(canvas, await createImageBitmap(blob));
    if (colour) button.style.setProperty("--hue", String(colour.hue));
    button.classList.add("ready");
  }).catch(() => item.remove());
  button.addEventListener("click", async () => {
    const mine = {};
    touch = mine;
    const overtaken = () => mine !== touch || !button.isConnected;
    const blob = await file.catch(() => null);
    if (!blob || overtaken()) return;
    await polaroid.show(blob, job.prompt || job.model);
    if (overtaken()) return;
    open = { job, index, button, blob };
    recipe(polaroid, job, index);
    Object.assign(find("viewer").querySelector(".sure"), { hidden: true, textContent: t("remove_sure") });
    document.body.classList.add("viewing");
    find("viewer").showModal();
  });
  return item;
}

async function act(action, again) {
  if (!open) return;
  const { job, index, blob } = open;
  if (action === "turn") polaroid.turnOver();
  else if (action === "download") download(blob, job, index);
  else if (action === "print") {
    polaroid.turnOver(false);
    window.print();
  } else if (action === "again") {
    close();
    again(job, job.pictures[index]?.seed ?? null);
  } else if (action === "remove") {
    const sure = find("viewer").querySelector(".sure");
    if (sure.hidden) {
      sure.hidden = false;
      return;
    }
    try {
      await api.remove(job.id);
      // A job is deleted with all its pictures.
      for (const item of find("prints").querySelectorAll("li")) if (item.dataset.job === job.id) item.remove();
      emptiness();
      close();
    } catch (error) {
      sure.textContent = t("failed", { message: error.message });
    }
  } else if (action === "close") close();
}
